//! Bundles: folders of a deployment's own files, which its guests may read.
//!
//! A bundle is known by the SHA-256 of its archive, as a component is by its own: so what a step could read is part of
//! what was deployed, and a version that is rolled back to finds the files that it had. Here are the names that a bundle
//! may consist of; the archive is the runtime's, since it is what gives the files to guests.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;
use crate::limits;
use crate::manifest::ManifestError;

/// A folder that a manifest grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bundle {
    /// The folder, relative to the manifest.
    pub path: String,
    /// Where its guests find it: an absolute path of theirs.
    pub mount: String,
    /// The SHA-256 of the folder's archive. Whoever deploys it fills it in; one that an author wrote must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// A bundle, as a task is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Where its guests find it.
    pub mount: String,
    /// Which it is.
    pub digest: Digest,
}

/// What cannot stand in the bundles of a manifest.
pub(crate) fn check(bundles: &[Bundle], wrong: &mut impl FnMut(&str, String)) {
    if bundles.len() > limits::BUNDLES_MAX {
        let (count, most) = (bundles.len(), limits::BUNDLES_MAX);
        return wrong("bundle", format!("{count} bundles, and at most {most} are possible"));
    }
    for (number, bundle) in bundles.iter().enumerate() {
        if bundle.path.is_empty() {
            wrong(&format!("bundle[{number}].path"), "it is empty".into());
        }
        let key = format!("bundle[{number}].mount");
        match bundle.mount.strip_prefix('/').map(check_path) {
            None => wrong(&key, format!("{:?} does not begin with /", bundle.mount)),
            Some(Err(why)) => wrong(&key, format!("{:?}: {why}", bundle.mount)),
            Some(Ok(())) => {}
        }
        let is_above = |upper: &str, lower: &str| {
            lower.strip_prefix(upper).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let (before, mount) = (&bundles[..number], &bundle.mount);
        let meets = |other: &&Bundle| is_above(&other.mount, mount) || is_above(mount, &other.mount);
        if let Some(other) = before.iter().find(meets) {
            wrong(&key, format!("{mount:?} and {:?} lie within one another", other.mount));
        }
    }
}

/// The bundles as tasks are told of them.
///
/// # Errors
/// [`ManifestError`] for one whose digest is not known.
pub(crate) fn grants(bundles: &[Bundle]) -> Result<Vec<Grant>, ManifestError> {
    let grant = |(number, bundle): (usize, &Bundle)| match bundle.digest {
        Some(digest) => Ok(Grant { mount: bundle.mount.clone(), digest }),
        None => Err(ManifestError {
            key: format!("bundle[{number}].digest"),
            why: "it is missing: upload the folder's archive, and say its SHA-256".to_owned(),
        }),
    };
    bundles.iter().enumerate().map(grant).collect()
}

/// Whether a file of a bundle may be called so: names with `/` between them, that lead nowhere but down.
///
/// # Errors
/// Why not, in words.
pub fn check_path(path: &str) -> Result<(), String> {
    if path.len() > limits::BUNDLE_PATH_BYTES_MAX {
        let most = limits::BUNDLE_PATH_BYTES_MAX;
        return Err(format!("it has {} bytes, and at most {most} are possible", path.len()));
    }
    for name in path.split('/') {
        match name {
            "" => return Err("a name in it is empty".into()),
            "." | ".." => return Err(format!("it holds {name:?}")),
            name if name.contains(|c: char| c.is_control() || c == '\\') => {
                return Err("it holds a control character or a backslash".into());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bundles: &[(&str, &str)]) -> Vec<String> {
        let bundle = |(path, mount): &(&str, &str)| Bundle {
            path: (*path).to_owned(),
            mount: (*mount).to_owned(),
            digest: None,
        };
        let bundles: Vec<_> = bundles.iter().map(bundle).collect();
        let mut said = Vec::new();
        check(&bundles, &mut |key, why| said.push(format!("{key}: {why}")));
        said
    }

    #[test]
    fn mounts_are_absolute_and_lie_apart() {
        assert!(checked(&[("a", "/data"), ("b", "/data-2"), ("../c", "/other/data")]).is_empty());
        for (bundles, key) in [
            (&[("", "/data")][..], "bundle[0].path: it is empty"),
            (&[("a", "data")], "bundle[0].mount: \"data\" does not begin with /"),
            (&[("a", "")], "bundle[0].mount: \"\" does not begin with /"),
            (&[("a", "/")], "bundle[0].mount: \"/\": a name in it is empty"),
            (&[("a", "/x/../y")], "bundle[0].mount: \"/x/../y\": it holds \"..\""),
            (&[("a", "/x"), ("b", "/x")], "bundle[1].mount: \"/x\" and \"/x\" lie within one another"),
            (&[("a", "/x/y"), ("b", "/x")], "bundle[1].mount: \"/x\" and \"/x/y\" lie within one another"),
            (&[("a", "/x"); 9], "bundle: 9 bundles, and at most 8 are possible"),
        ] {
            assert_eq!(checked(bundles), [key], "{bundles:?}");
        }
    }

    #[test]
    fn a_file_leads_nowhere_but_down() {
        for path in ["a", "a/b", "...", "a b", "ä/ö.json", ".hidden", "a..b"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "./a", "a\\b", "a\nb", "a\0"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert!(check_path(&"a".repeat(limits::BUNDLE_PATH_BYTES_MAX)).is_ok());
        assert!(check_path(&"a".repeat(limits::BUNDLE_PATH_BYTES_MAX + 1)).is_err());
    }
}
