//! `log-cli spool check`: every batch of a directory that no writer uses.

use logd_client::{Aside, Spool, SpoolFault, SpoolFinding};

use super::blocking;
use crate::args::CheckDir;
use crate::check::{Finding, Grade, Report, name, unchecked};
use crate::exit::{Exit, Failure};

pub(super) async fn run(args: CheckDir) -> Result<Exit, Failure> {
    let CheckDir { dir, repair, json } = args;
    let work = {
        let dir = dir.clone();
        move || if repair { Spool::repair(&dir) } else { Spool::check(&dir) }
    };
    let check = blocking(work).await.map_err(unchecked)?;
    let mut report = Report::new(&[
        (check.batches, "batch", "batches"),
        (check.messages, "message", "messages"),
        (check.bytes, "byte", "bytes"),
    ]);
    for found in check.findings {
        let SpoolFinding { path, fault, moved_to, failure, .. } = found;
        let (grade, kind, text) = told(&fault);
        let (file, moved_to) = (name(&path, &dir), moved_to.map(|path| name(&path, &dir)));
        report.add(
            Finding { grade, kind, file, text, moved_to, then: None },
            failure.map(|error| error.to_string()),
        );
    }
    report.tell(json).await
}

fn told(fault: &SpoolFault) -> (Grade, &'static str, String) {
    match fault {
        SpoolFault::Damaged(damage) => (Grade::Damage, "damage", damage.to_string()),
        SpoolFault::Unfinished => (Grade::Repair, "unfinished", "a batch that was not finished".into()),
        SpoolFault::Kept(why) => {
            let why = match why {
                Some(Aside::Refused) => "set aside earlier: refused by the server",
                Some(Aside::Unknown) => "set aside earlier: may be in the topic already",
                Some(Aside::Damaged) => "set aside earlier: damaged",
                _ => "set aside earlier",
            };
            (Grade::Note, "kept", why.into())
        }
        SpoolFault::Foreign => (Grade::Note, "foreign", "is none of the spool's files".into()),
        SpoolFault::Unreadable(error) => (Grade::Unchecked, "unreadable", error.to_string()),
        _ => (Grade::Unchecked, "unreadable", "is not known to this program".into()),
    }
}
