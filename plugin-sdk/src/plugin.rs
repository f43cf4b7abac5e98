//! What the author of a plugin implements, and the macro that makes a component of it.

use crate::{Event, Failure, Step, Timer};

/// A consumer that lives in the broker. Implement [`Plugin::handle`], and name the type in
/// [`plugin!`](crate::plugin!).
pub trait Plugin {
    /// Handles one event of `step`.
    ///
    /// # Errors
    /// A [`Failure`] undoes the whole step. The broker then runs its events one at a time, and deals with the
    /// one that fails again as the manifest's failure policy says.
    fn handle(step: &Step, event: &Event) -> Result<(), Failure>;

    /// Handles a timer that is due: one that this plugin set.
    ///
    /// # Errors
    /// As [`Plugin::handle`]. By default it fails: a plugin that sets timers has its own.
    fn timer(step: &Step, timer: &Timer) -> Result<(), Failure> {
        let _ = step;
        Err(Failure::reject(format_args!("the plugin handles no timers, and {:?} is due", timer.name())))
    }

    /// Handles a whole step: by default each of its events, or timers, in order. A plugin that gains from seeing them
    /// together (one write for many events) does its own.
    ///
    /// # Errors
    /// A [`Failure`] undoes the whole step.
    fn step(step: &Step) -> Result<(), Failure> {
        step.events().iter().try_for_each(|event| Self::handle(step, event))?;
        step.timers().iter().try_for_each(|timer| Self::timer(step, timer))
    }
}

/// Makes the crate's component: exports the type as the plugin. Once a crate, which is a `cdylib`.
///
/// ```
/// use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};
///
/// struct Copy;
///
/// impl Plugin for Copy {
///     fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
///         Ok(step.emit(event, "copies", Record::from(event))?)
///     }
/// }
///
/// plugin!(Copy);
/// ```
#[cfg(not(target_arch = "wasm32"))]
#[macro_export]
macro_rules! plugin {
    ($plugin:ty) => {
        // Nothing is exported natively; that the type is a plugin is checked all the same.
        const _: fn(&$crate::Step) -> ::core::result::Result<(), $crate::Failure> =
            <$plugin as $crate::Plugin>::step;
    };
}

/// Makes the crate's component: exports the type as the plugin.
#[cfg(target_arch = "wasm32")]
#[macro_export]
macro_rules! plugin {
    ($plugin:ty) => {
        const _: () = {
            struct Exported;

            impl $crate::guest::Guest for Exported {
                fn handle(
                    step: &$crate::guest::HostStep,
                ) -> ::core::result::Result<(), $crate::guest::HostFailure> {
                    $crate::guest::handle::<$plugin>(step)
                }
            }

    $crate::guest::bindings::export!(Exported with_types_in $crate::guest::bindings);
        };
    };
}
