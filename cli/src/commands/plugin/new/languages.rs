//! The languages that projects are made in, and what the author's own files begin as.

/// Paths in a project, and their texts with `{{...}}` to be filled in.
pub(super) type Templates = &'static [(&'static str, &'static str)];

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Language {
    /// As `--lang` has it.
    pub(super) name: &'static str,
    /// The author's own files.
    pub(super) templates: Templates,
    /// Whether the SDK is written into the project, which is Rust's; the contract always is.
    pub(super) has_sdk: bool,
    /// What to do next, in the project.
    pub(super) next: &'static str,
}

pub(super) const LANGUAGES: [Language; 3] = [
    Language {
        name: "rust",
        templates: &[
            ("Cargo.toml", include_str!("../../../../templates/rust/Cargo.toml")),
            ("plugin.toml", include_str!("../../../../templates/rust/plugin.toml")),
            ("src/lib.rs", include_str!("../../../../templates/rust/src/lib.rs")),
            INPUT,
            EXPECT,
            ("README.md", include_str!("../../../../templates/rust/README.md")),
            (".gitignore", include_str!("../../../../templates/rust/gitignore")),
        ],
        has_sdk: true,
        next: "cargo test && tidemill plugin build && tidemill plugin test",
    },
    Language {
        name: "js",
        templates: &[
            ("package.json", include_str!("../../../../templates/js/package.json")),
            ("build.mjs", include_str!("../../../../../examples/polyglot/js/build.mjs")),
            ("plugin.toml", include_str!("../../../../templates/js/plugin.toml")),
            ("src/plugin.js", include_str!("../../../../templates/js/src/plugin.js")),
            INPUT,
            EXPECT,
            ("README.md", include_str!("../../../../templates/js/README.md")),
            (".gitignore", include_str!("../../../../templates/js/gitignore")),
        ],
        has_sdk: false,
        next: "tidemill plugin build && tidemill plugin test",
    },
    Language {
        name: "python",
        templates: &[
            ("requirements.txt", include_str!("../../../../../examples/polyglot/python/requirements.txt")),
            ("plugin.toml", include_str!("../../../../templates/python/plugin.toml")),
            ("src/app.py", include_str!("../../../../templates/python/src/app.py")),
            INPUT,
            EXPECT,
            ("README.md", include_str!("../../../../templates/python/README.md")),
            (".gitignore", include_str!("../../../../templates/python/gitignore")),
        ],
        has_sdk: false,
        next: "tidemill plugin build && tidemill plugin test",
    },
];

// The same plugin in every language, so the same records.
const INPUT: (&str, &str) =
    ("tests/input.jsonl", include_str!("../../../../templates/rust/tests/input.jsonl"));
const EXPECT: (&str, &str) =
    ("tests/expect.jsonl", include_str!("../../../../templates/rust/tests/expect.jsonl"));
