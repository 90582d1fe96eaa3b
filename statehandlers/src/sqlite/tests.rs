//! What the requests do that no caller sees.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::place::Place;
use super::sql::{Statements, TABLE};
use super::store::{Shared, Store};
use crate::checkpoint::Checkpoint;
use crate::fence::Fence;
use crate::handler::Committed;
use crate::key::ConsumerKey;

#[test]
fn what_may_be_in_memory_only_is_written_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let statements = Statements::new(TABLE).unwrap();
    let connection = Connection::open(file.path()).unwrap();
    connection.execute_batch(&statements.create_table).unwrap();
    let place = Place::new(Path::new(connection.path().unwrap()), false).unwrap();
    let mut store = Store::new(connection, Arc::new(Shared { statements, place }));
    let key = ConsumerKey::new("orders".parse().unwrap(), "billing").unwrap();
    let checkpoint = Checkpoint::at("5".parse().unwrap());
    let mut rows_written = |is_suspect, expected| {
        store.is_suspect = is_suspect;
        let before = store.connection.total_changes();
        let done = store
            .change(&key, |record, existed| record.complete(&key, &checkpoint, Fence::NONE, existed))
            .unwrap();
        assert_eq!((done, store.is_suspect), (expected, false));
        store.connection.total_changes() - before
    };
    assert_eq!(rows_written(false, Committed::Stored), 1);
    assert_eq!(rows_written(false, Committed::Unchanged), 0);
    assert_eq!(rows_written(true, Committed::Unchanged), 1);
}
