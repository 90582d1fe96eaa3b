//! The targets of `tests/fuzz`, for libFuzzer.

#[expect(dead_code, reason = "libFuzzer finds the words of a target by itself")]
#[path = "../../targets/mod.rs"]
mod targets;

/// Gives the target of this name the bytes.
///
/// # Panics
/// When something does not hold for them.
pub fn run(name: &str, bytes: &[u8]) {
    let target = targets::TARGETS.iter().find(|target| target.name == name).expect("there is such a target");
    (target.run)(bytes);
}
