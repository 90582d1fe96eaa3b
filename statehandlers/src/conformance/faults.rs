//! Group `faults`: what goes wrong between a handler and its store.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{Context, checkpoint, key, store, stored, until};
use super::fixture::Fixture;
use super::hooks::{Cut, Faults};
use super::lease::{LONG, grant, leases};
use super::verdict::{Verdict, ensure, failed, hooked, same, skipped};
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::{Claim, StateHandler};
use crate::key::ConsumerKey;

/// How much longer a call may take than it says, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

fn faults<F: Fixture>(context: &Context<F>) -> Verdict<&dyn Faults> {
    context.store.faults().map_or_else(|| skipped("the fixture has no `faults`"), Ok)
}

/// Reads what is stored, once the handler has found its store again.
async fn found_again(handler: &Arc<dyn StateHandler>, key: &ConsumerKey) -> Verdict<Option<u64>> {
    let mut seen = None;
    until("the handler finds its store again", async || match handler.get(key).await {
        Ok(checkpoint) => {
            seen = checkpoint.map(|checkpoint| checkpoint.next.offset.as_u64());
            Ok(true)
        }
        Err(error) if error.is_retryable() => Ok(false),
        Err(error) => failed(format!("a fault that passes ends in {:?}: {error}", error.kind())),
    })
    .await?;
    Ok(seen)
}

/// Fails unless what is stored agrees with what the call said.
fn told_the_truth<T>(
    told: &Result<T, StateError>,
    seen: Option<u64>,
    old: u64,
    new: u64,
    what: &str,
) -> Verdict {
    let possible: &[u64] = match told.as_ref().map_err(StateError::kind) {
        Ok(_) => &[new],
        Err(StateErrorKind::Unavailable) => &[old],
        Err(StateErrorKind::Ambiguous) => &[old, new],
        Err(kind) => return failed(format!("{what}: its error is {kind:?}, and it can be repeated")),
    };
    let is_told = seen.is_some_and(|seen| possible.contains(&seen));
    let error = told.as_ref().err().map_or_else(|| "no error".into(), ToString::to_string);
    ensure!(is_told, "{what}: stored is {seen:?} after `{old}` and `{new}`, and the call said `{error}`");
    Ok(())
}

pub(super) async fn cut_connection_tells_the_truth<F: Fixture>(context: &Context<F>) -> Verdict {
    let faults = faults(context)?;
    let handler = context.open().await?;
    for cut in [Cut::Before, Cut::During, Cut::After] {
        let key = key(&format!("{cut:?}"))?;
        let one = Claimant::new("one");
        let mut fence = Fence::NONE;
        if handler.leases().is_some() {
            fence = grant(&handler, &key, &one, LONG).await?.fence;
        }
        store(&handler, &key, &checkpoint(5), fence).await?;
        if !hooked(faults.cut(cut).await)? {
            context.skip_part(&format!("the fixture cannot cut a connection there: {cut:?}"));
            continue;
        }
        let told = handler.complete(&key, &checkpoint(6), fence).await;
        let seen = found_again(&handler, &key).await?;
        told_the_truth(&told, seen, 5, 6, &format!("a write, cut {cut:?}"))?;
        handler.complete(&key, &checkpoint(6), fence).await?;
        stored(&handler, &key, Some(&checkpoint(6)), "a write that was cut, done again").await?;
        if handler.leases().is_some() {
            cut_lease(faults, &handler, &key, &one, cut).await?;
        }
    }
    Ok(())
}

/// Cuts a claim and a release; repeating them resolves it.
async fn cut_lease(
    faults: &dyn Faults,
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    claimant: &Claimant,
    cut: Cut,
) -> Verdict {
    hooked(faults.cut(cut).await)?;
    if let Err(error) = leases(handler)?.start(key, claimant, LONG).await {
        ensure!(error.is_retryable(), "a claim, cut {cut:?}: its error is {:?}", error.kind());
    }
    found_again(handler, key).await?;
    let fence = grant(handler, key, claimant, LONG).await?.fence;
    hooked(faults.cut(cut).await)?;
    let told = leases(handler)?.release(key, fence, Some(&checkpoint(7))).await;
    let seen = found_again(handler, key).await?;
    told_the_truth(&told, seen, 6, 7, &format!("a release, cut {cut:?}"))?;
    leases(handler)?.release(key, fence, Some(&checkpoint(7))).await?;
    let next = grant(handler, key, &Claimant::new("two"), LONG).await?;
    same(&next.checkpoint, &Some(checkpoint(7)), "the checkpoint behind a release that was cut")
}

pub(super) async fn restarted_server_is_found_again<F: Fixture>(context: &Context<F>) -> Verdict {
    let faults = faults(context)?;
    let handler = context.open().await?;
    let key = key("billing")?;
    store(&handler, &key, &checkpoint(5), Fence::NONE).await?;
    for offset in [6, 7] {
        if !hooked(faults.restart().await)? {
            return skipped("the fixture cannot restart the server");
        }
        let seen = found_again(&handler, &key).await?;
        if handler.capabilities().durable {
            same(&seen, &Some(offset - 1), "what is stored after a restart")?;
        }
        handler.complete(&key, &checkpoint(offset), Fence::NONE).await?;
        stored(&handler, &key, Some(&checkpoint(offset)), "what was written after a restart").await?;
    }
    Ok(())
}

pub(super) async fn hung_server_hits_the_timeout<F: Fixture>(context: &Context<F>) -> Verdict {
    let faults = faults(context)?;
    let handler = context.open().await?;
    let key = key("billing")?;
    store(&handler, &key, &checkpoint(5), Fence::NONE).await?;
    if !hooked(faults.pause().await)? {
        return skipped("the fixture cannot pause the server");
    }
    let seen = while_hanging(&handler, &key, faults.call_time_max()).await;
    hooked(faults.resume().await)?;
    let told = seen?;
    let stored_offset = found_again(&handler, &key).await?;
    // What was ambiguous may still be under way in the server, as may what was refused only by time.
    ensure!(matches!(stored_offset, Some(5 | 6)), "after a server that hung, stored is {stored_offset:?}");
    ensure!(told.is_retryable(), "a call to a hung server ends in {:?}: {told}", told.kind());
    until("a write goes through once the server does not hang", async || {
        match handler.complete(&key, &checkpoint(6), Fence::NONE).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_retryable() => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    stored(&handler, &key, Some(&checkpoint(6)), "a write to a server that hung, done again").await
}

/// What a write says while the server hangs; the thread is not kept meanwhile.
async fn while_hanging(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    time_max: Duration,
) -> Verdict<StateError> {
    let begin = Instant::now();
    let bound = time_max.saturating_add(SLACK);
    let new = checkpoint(6);
    let Ok(read) = tokio::time::timeout(bound, handler.get(key)).await else {
        return failed(format!("a read from a hung server took more than {bound:?}"));
    };
    ensure!(read.is_err(), "a hung server has answered a read with {read:?}");
    let Ok(written) = tokio::time::timeout(bound, handler.complete(key, &new, Fence::NONE)).await else {
        return failed(format!("a write to a hung server took more than {bound:?}"));
    };
    // A timer that fires late tells of a call that kept the thread.
    ensure!(begin.elapsed() < bound * 2 + SLACK, "two calls to a hung server took {:?}", begin.elapsed());
    match written {
        Err(error) => Ok(error),
        Ok(done) => failed(format!("a hung server has answered a write with {done:?}")),
    }
}

pub(super) async fn errors_tell_no_secrets<F: Fixture>(context: &Context<F>) -> Verdict {
    let secrets = context.store.secrets();
    if secrets.is_empty() {
        return skipped("the fixture names no `secrets`");
    }
    let handler = context.open().await?;
    let key = key("billing")?;
    let mut errors = match context.store.faults() {
        Some(faults) => faults.refusals().await,
        None => Vec::new(),
    };
    if let Some(faults) = context.store.faults() {
        for cut in [Cut::Before, Cut::During, Cut::After] {
            if hooked(faults.cut(cut).await)? {
                errors.extend(handler.get(&key).await.err());
                found_again(&handler, &key).await?;
            }
        }
        if hooked(faults.pause().await)? {
            errors.extend(handler.get(&key).await.err());
            if let Some(leases) = handler.leases() {
                let claim: Result<Claim, _> = leases.start(&key, &Claimant::new("one"), LONG).await;
                errors.extend(claim.err());
            }
            hooked(faults.resume().await)?;
        }
    }
    let mut texts = vec![format!("{handler:?}"), format!("{handler:#?}")];
    if errors.is_empty() {
        context.skip_part("the fixture makes no errors: only the handler's `Debug` was looked at");
    }
    for error in &errors {
        texts.extend([format!("{error:?}"), format!("{error:#?}")]);
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            texts.push(error.to_string());
            cause = error.source();
        }
    }
    for text in &texts {
        for secret in &secrets {
            // Not even in the report of it.
            ensure!(
                !text.contains(secret.as_str()),
                "a secret is told: `{}`",
                text.replace(secret.as_str(), "***")
            );
        }
    }
    Ok(())
}
