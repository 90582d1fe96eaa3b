//! `log-cli state check`: every checkpoint of a store in files.

use logd_statehandlers::{FileFault, FileFinding, FileState};

use crate::args::CheckDir;
use crate::check::{Finding, Grade, Report, name, unchecked};
use crate::exit::{Exit, Failure};

pub(super) async fn run(args: CheckDir) -> Result<Exit, Failure> {
    let CheckDir { dir, repair, json } = args;
    let check = if repair { FileState::repair(&dir).await } else { FileState::check(&dir).await };
    let check = check.map_err(unchecked)?;
    let mut report =
        Report::new(&[(check.records, "checkpoint", "checkpoints"), (check.bytes, "byte", "bytes")]);
    for found in check.findings {
        let FileFinding { path, fault, moved_to, failure, .. } = found;
        let (grade, kind, text) = told(&fault);
        let then = matches!(fault, FileFault::Damaged(_)).then_some("its reader begins anew");
        let (file, moved_to) = (name(&path, &dir), moved_to.map(|path| name(&path, &dir)));
        report
            .add(Finding { grade, kind, file, text, moved_to, then }, failure.map(|error| error.to_string()));
    }
    report.tell(json).await
}

fn told(fault: &FileFault) -> (Grade, &'static str, String) {
    match fault {
        FileFault::Damaged(error) => (Grade::Damage, "damage", error.to_string()),
        FileFault::Marker => {
            (Grade::Damage, "marker", "it is not what marks a store: it cannot be opened".into())
        }
        FileFault::Unfinished => (Grade::Repair, "unfinished", "a checkpoint that was not finished".into()),
        FileFault::Kept => (Grade::Note, "kept", "set aside earlier".into()),
        FileFault::Foreign => (Grade::Note, "foreign", "is none of the store's files".into()),
        FileFault::Unreadable(error) => (Grade::Unchecked, "unreadable", error.to_string()),
        _ => (Grade::Unchecked, "unreadable", "is not known to this program".into()),
    }
}
