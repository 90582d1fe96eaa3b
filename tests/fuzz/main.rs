//! Bytes of any kind at every boundary at which logd reads what others have written: no input may make it panic, hang, or
//! take what is wrong for right.
//!
//! `targets` has a function for each boundary. A test gives its target every input of `corpus/<target>`, and then, for
//! about three seconds, inputs that are made from these by `mutate`. The same functions are run under libFuzzer, which
//! is led by what they cover, from `cargo-fuzz`: see `CONTRIBUTING.md`.
//!
//! - `LOGD_TEST_SEED=<number>` repeats the random inputs of a test
//! - `LOGD_TEST_RUNS=<number>` makes so many of them, `LOGD_TEST_SECONDS=<number>` takes so long
//! - `LOGD_TEST_INPUT=<file>` runs that input and no other
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a target says by a panic what is wrong, and what is run is told to those who look"
)]

mod mutate;
mod run;
#[cfg(test)]
mod targets;

/// A test for each target, of the same name.
macro_rules! tests {
    ($($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                run::run(stringify!($name));
            }
        )*

        #[test]
        fn every_target_has_a_test() {
            let names: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name),)*]);
            for name in names {
                let file = format!("{}/fuzz/cargo-fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
                assert!(std::path::Path::new(&file).is_file(), "`{file}` is not there");
            }
        }
    };
}

tests! {
    requests,
    responses,
    batches,
    recovery,
    spool,
    checkpoints,
    states,
    answers,
    reader,
    settings,
}
