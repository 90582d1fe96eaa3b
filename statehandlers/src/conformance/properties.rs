//! The list of all properties, and how one is run.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;

use super::context::{Context, say};
use super::fixture::Fixture;
use super::verdict::{Outcome, Stop, Verdict};
use super::{admin, basic, cancel, durable, faults, fenced, model, monotonic, naming, tx};

/// The longest that a property takes, so that a handler that hangs fails instead.
const PROPERTY_TIME_MAX: Duration = Duration::from_secs(120);

/// How many threads poll: enough that calls meet also where there are few processors.
const WORKERS: usize = 4;

/// Turns the suite into the tests of a handler: one line, with the name of a type that is a
/// [`Fixture`](crate::conformance::Fixture). Each property becomes a test, in a module a group. Two fixtures in one file
/// need a module each.
///
/// See [the module](mod@crate::conformance) for an example.
#[macro_export]
macro_rules! conformance {
    ($fixture:ty) => {
        type ConformanceFixture = $fixture;
        $crate::conformance!(@properties @tests);
    };
    (@properties @$as:ident) => {
        $crate::conformance! { @$as
            declared: declares_what_it_has;
            basic: unknown_key_is_none, every_field_comes_back, nothing_is_kept_of_what_was_replaced,
                extreme_positions, values_above_2_to_53_compare_exactly, user_bytes_of_any_content,
                too_much_is_refused;
            monotonic: same_write_twice_is_unchanged, same_position_is_replaced, older_is_stale_and_changes_nothing,
                late_duplicate_does_not_regress, order_is_not_that_of_text, concurrent_completes_end_at_the_maximum,
                racing_first_writes_end_at_the_maximum,
                clock_of_the_writer_means_nothing;
            naming: no_names_collide, longest_names_are_kept_apart, writes_leave_other_keys;
            cancel: dropped_complete_leaves_old_or_new, dropped_complete_landing_late_cannot_regress,
                dropped_lease_calls_leave_a_usable_lease, dropped_reset_leaves_old_or_new, runtime_is_not_blocked;
            model: random_histories_end_as_the_reference;
            durable: survives_reopen, survives_kill_after_ack, empty_is_corrupt_not_new, truncated_is_corrupt_not_new,
                flipped_bits_are_never_new, newer_format_is_refused_and_kept, unreadable_is_not_overwritten,
                full_disk_keeps_the_previous, vanished_record_is_lost_not_recreated, old_bodies_are_read;
            fenced: epochs_grow_and_nonces_differ, grant_carries_the_checkpoint, second_claimant_gets_processing,
                thirty_claimants_one_winner, zombies_change_nothing, invented_fences_change_nothing,
                unfenced_is_refused_after_a_lease, lost_replies_are_resolved_by_retry, older_is_stale_also_with_a_fence,
                late_write_of_the_holder_is_accepted, fence_of_a_deleted_key_means_nothing, epoch_survives_reopen,
                release_writes_last_and_frees, stale_release_frees, repeated_release_is_no_error,
                released_lease_is_not_renewed, lease_runs_out, renewed_lease_lasts, processing_tells_what_is_left,
                lapsed_lease_can_be_renewed,
                lease_of_a_killed_holder_ends, client_clocks_an_hour_off_change_nothing;
            tx: rollback_leaves_both, commit_applies_both, stale_fence_aborts, takeover_waits_for_the_open_transaction,
                tokens_in_the_wrong_order_fail;
            admin: list_is_all_in_order, list_shows_leases, reset_backwards_is_kept_and_fences_the_owner,
                reset_makes_what_is_missing, delete_forgets, unreadable_is_listed_and_reset,
                export_then_import_is_the_identity;
            faults: cut_connection_tells_the_truth, restarted_server_is_found_again, hung_server_hits_the_timeout,
                errors_tell_no_secrets;
        }
    };
    (@tests $($group:ident: $($property:ident),+;)+) => {
        $(mod $group {
            $(#[test]
            fn $property() {
                let name = concat!(stringify!($group), "::", stringify!($property));
                $crate::conformance::run::<super::ConformanceFixture>(name, module_path!());
            })+

        })+

        mod conformance_process {
            #[test]
            fn writer_process() {
                $crate::conformance::writer_process::<super::ConformanceFixture>();
            }
        }
    };
    (@list $($group:ident: $($property:ident),+;)+) => {
        [$($((
            concat!(stringify!($group), "::", stringify!($property)),
            (|context| Box::pin($group::$property(context))) as Check<F>,
        )),+),+]
    };
}

type Check<F> = for<'a> fn(&'a Context<F>) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// What became of one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyResult {
    /// Its name, `group::property`.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

impl fmt::Display for PropertyResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, self.outcome)
    }
}

/// Runs one property, as the tests that [`conformance!`](crate::conformance!) makes do. `module` is the path of the module
/// that the test is in.
///
/// # Panics
/// When the property does not hold, or there is none of that name.
#[expect(clippy::panic, reason = "that is how a test fails")]
pub fn run<F: Fixture>(name: &str, module: &str) {
    let Some((name, check)) = list::<F>().into_iter().find(|(listed, _)| *listed == name) else {
        panic!("there is no property `{name}`")
    };
    // libtest's names have no crate; the group's module is the last, and its neighbour has the process.
    let path = module.split_once("::").map_or("", |(_, path)| path);
    let outer = path.rsplit_once("::").map_or(String::new(), |(outer, _)| format!("{outer}::"));
    if let Outcome::Failed(why) =
        outcome(name, check, Some(format!("{outer}conformance_process::writer_process")))
    {
        panic!("{}: {name}: {why}", F::name());
    }
}

/// Runs all properties one after the other, wherever it is called; but those that kill a process are skipped, which only
/// the tests of [`conformance!`](crate::conformance!) can do.
pub fn report<F: Fixture>() -> Vec<PropertyResult> {
    let all = list::<F>().into_iter();
    all.map(|(name, check)| PropertyResult { name, outcome: outcome(name, check, None) }).collect()
}

fn list<F: Fixture>() -> impl IntoIterator<Item = (&'static str, Check<F>)> {
    crate::conformance!(@properties @list)
}

fn outcome<F: Fixture>(name: &'static str, check: Check<F>, process: Option<String>) -> Outcome {
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
        let verdict = runtime.block_on(async {
            let checked = async {
                let context = Context::<F>::new(name, process).await?;
                gate(&context, name).await?;
                check(&context).await
            };
            let hung = |_| Err(Stop::Failed(format!("it was not done within {PROPERTY_TIME_MAX:?}")));
            tokio::time::timeout(PROPERTY_TIME_MAX, checked).await.unwrap_or_else(hung)
        });
        // A handler's blocking task that never ends must not keep the test from ending.
        runtime.shutdown_timeout(Duration::from_secs(1));
        verdict
    }));
    match verdict {
        Ok(Ok(())) => Outcome::Held,
        Ok(Err(Stop::Failed(why))) => Outcome::Failed(why),
        Ok(Err(Stop::Skipped(why))) => {
            say("skipped", &F::name(), name, &why);
            Outcome::Skipped(why)
        }
        Err(_) => Outcome::Failed("it panicked".into()),
    }
}

/// Skips the properties of what is not declared.
async fn gate<F: Fixture>(context: &Context<F>, name: &str) -> Verdict {
    use super::verdict::skipped;
    use crate::handler::Fencing;

    let handler = context.open().await?;
    let declared = handler.capabilities();
    handler.close().await?;
    let group = name.split_once("::").map_or(name, |(group, _)| group);
    let missing = match group {
        "durable" => (!declared.durable).then_some("it is not declared durable"),
        "fenced" => (declared.fencing == Fencing::None).then_some("it declares no fencing"),
        "admin" => (!declared.admin).then_some("it declares no admin"),
        "tx" => (!declared.transactions).then_some("it declares no transactions"),
        _ => None,
    };
    missing.map_or(Ok(()), skipped)
}

/// The group that looks at what is declared as a whole.
mod declared {
    use super::super::verdict::{Verdict, ensure};
    use super::{Context, Fixture};
    use crate::handler::Fencing;

    pub(super) async fn declares_what_it_has<F: Fixture>(context: &Context<F>) -> Verdict {
        let handler = context.open().await?;
        let declared = handler.capabilities();
        let parts = [
            ("fencing", declared.fencing != Fencing::None, handler.leases().is_some()),
            ("admin", declared.admin, handler.admin().is_some()),
            ("transactions", declared.transactions, context.store.transactions().is_some()),
        ];
        for (what, is_declared, is_there) in parts {
            ensure!(
                is_there || !is_declared,
                "it declares {what}, and has none, or the fixture has no hook for it"
            );
            if is_there && !is_declared {
                context.report(&format!("it has {what}, and does not declare it"));
            }
        }
        if !declared.durable && context.store.location().is_some() {
            context.report("another process can open its store, and it is not declared durable");
        }
        if declared.fencing == Fencing::BestEffort {
            context.report("its fences hold but for a failover, which is not tested");
        }
        Ok(())
    }
}
