//! Files that are not as they were written.

use super::*;

const CONTENT: &str = "{\"fence\":\"7-00000000000000000000000000000009\",\"later\":[1,null]}\n\
    {\"logd-checkpoint\":1,\"next\":\"60.12\",\"later\":{}}\n";

struct Damaged {
    folder: TempDir,
    state: FileState,
    key: ConsumerKey,
}

impl Damaged {
    async fn new() -> Self {
        let folder = folder();
        let state = FileState::open(folder.path()).await.unwrap();
        let key = key("billing");
        state.complete(&key, &full(), Fence::NONE).await.unwrap();
        Self { folder, state, key }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("default/orders/billing.ckpt")
    }

    fn write(&self, file: &[u8]) {
        fs::write(self.path(), file).unwrap();
    }

    /// Nothing takes it for a record, nor writes over it.
    async fn assert_refused(&self, file: &[u8], expected: StateErrorKind) {
        let Self { state, key, .. } = self;
        self.write(file);
        let fence = Fence { epoch: 7, nonce: 9 };
        assert_eq!(kind(state.get(key).await), expected);
        assert_eq!(kind(state.complete(key, &at(u64::MAX), Fence::NONE).await), expected);
        assert_eq!(kind(state.complete(key, &at(u64::MAX), fence).await), expected);
        assert_eq!(kind(state.start(key, &Claimant::new("one"), TTL).await), expected);
        assert_eq!(kind(state.renew(key, fence, TTL).await), expected);
        assert_eq!(kind(state.release(key, fence, Some(&at(u64::MAX))).await), expected);
        let entries = state.list().await.unwrap();
        assert_eq!(entries[0].checkpoint.as_ref().unwrap_err().kind(), expected);
        assert_eq!(fs::read(self.path()).unwrap(), file);
    }
}

#[tokio::test]
async fn every_cut_and_every_changed_bit_is_found() {
    let damaged = Damaged::new().await;
    let Damaged { state, key, .. } = &damaged;
    let whole = fs::read(damaged.path()).unwrap();
    for length in 0..whole.len() {
        damaged.write(&whole[..length]);
        assert_eq!(kind(state.get(key).await), StateErrorKind::Corrupt, "cut at {length}");
    }
    for index in 0..whole.len() {
        for bit in 0..8 {
            let mut file = whole.clone();
            file[index] ^= 1 << bit;
            damaged.write(&file);
            assert_eq!(kind(state.get(key).await), StateErrorKind::Corrupt, "bit {bit} of {index}");
        }
    }
    damaged.write(&whole);
    assert_eq!(state.get(key).await.unwrap(), Some(full()));
}

#[tokio::test]
async fn damage_is_left_as_it_is() {
    let damaged = Damaged::new().await;
    let whole = fs::read(damaged.path()).unwrap();
    let mut appended = whole.clone();
    appended.push(b'\n');
    for file in [
        Vec::new(),
        vec![0; whole.len()],
        vec![b'x'; frame::BYTES_MAX + 1],
        whole[..whole.len() / 2].to_vec(),
        appended,
        frame::seal(1, b""),
        frame::seal(1, b"{}"),
        frame::seal(1, b"[]\n"),
        frame::seal(1, b"{}\n{}\n"),
        frame::seal(1, b"{}\n{\"logd-checkpoint\":1,\"next\":\"0.0\"}"),
        frame::seal(1, b"{\"fence\":7}\n"),
        frame::seal(1, b"{\"owner\":\"one\"}\n"),
        frame::seal(0, CONTENT.as_bytes()),
    ] {
        damaged.assert_refused(&file, StateErrorKind::Corrupt).await;
    }
}

#[tokio::test]
async fn later_versions_are_left_as_they_are() {
    let damaged = Damaged::new().await;
    let later_body = frame::seal(1, b"{}\n{\"logd-checkpoint\":2}\n");
    for file in [frame::seal(2, b"whatever\0"), frame::seal(u64::MAX, b""), later_body] {
        damaged.assert_refused(&file, StateErrorKind::Newer).await;
    }
    let root = damaged.folder.path();
    for (marker, expected) in [
        ("logd-state-store 2 more of it\n", StateErrorKind::Newer),
        ("logd-state-store 1 00", StateErrorKind::Corrupt),
        ("", StateErrorKind::Corrupt),
    ] {
        fs::write(root.join(".logd-state"), marker).unwrap();
        assert_eq!(kind(FileState::open(root).await), expected);
    }
}

#[tokio::test]
async fn what_a_later_version_has_added_survives() {
    let damaged = Damaged::new().await;
    let Damaged { state, key, .. } = &damaged;
    damaged.write(&frame::seal(1, CONTENT.as_bytes()));
    let stored = state.get(key).await.unwrap().unwrap();
    let fence = granted(state, key, &Claimant::new("one")).await;
    assert_eq!(fence.epoch, 8);
    state.complete(key, &Checkpoint { head_attempts: 2, ..stored }, fence).await.unwrap();
    let text = fs::read_to_string(damaged.path()).unwrap();
    assert!(text.contains(r#""later":[1,null]"#) && text.contains(r#""later":{}"#), "{text}");
}

#[tokio::test]
async fn an_administrator_replaces_what_cannot_be_read() {
    let damaged = Damaged::new().await;
    let Damaged { state, key, .. } = &damaged;
    for file in [frame::seal(2, b"whatever"), Vec::new()] {
        let fence = granted(state, key, &Claimant::new("one")).await;
        damaged.write(&file);
        state.reset(key, &at(3)).await.unwrap();
        assert_eq!(state.get(key).await.unwrap(), Some(at(3)));
        assert_eq!(kind(state.complete(key, &at(4), fence).await), StateErrorKind::Fenced);
        assert!(granted(state, key, &Claimant::new("two")).await.epoch > fence.epoch + 1_000_000);
        damaged.write(&file);
        assert!(state.delete(key).await.unwrap());
        assert_eq!(state.get(key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_is_no_file_is_an_error() {
    let damaged = Damaged::new().await;
    fs::remove_file(damaged.path()).unwrap();
    fs::create_dir(damaged.path()).unwrap();
    assert_eq!(kind(damaged.state.get(&damaged.key).await), StateErrorKind::Failed);
    let complete = damaged.state.complete(&damaged.key, &at(1), Fence::NONE).await;
    assert_eq!(kind(complete), StateErrorKind::Failed);
    fs::write(damaged.folder.path().join("file"), "").unwrap();
    let below = damaged.key.clone().in_namespace("file").unwrap();
    assert_eq!(kind(damaged.state.get(&below).await), StateErrorKind::Failed);
}
