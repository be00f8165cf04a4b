// SPDX-License-Identifier: MIT OR Apache-2.0
//! What saving does to a directory, and who may.

use kiln::checkpoint::{write_atomically, DirectoryLock};

use super::*;

fn names(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_failing_write_leaves_the_old_checkpoint() {
    let dir = TempDir::new().unwrap();
    let (mut trainer, progress) = saved(&dir, Adam::new(0.01));
    let read = |file| fs::read(dir.path().join(file)).unwrap();
    let before = [read(MODEL_FILE), read(TRAINING_FILE)];
    steps(&mut trainer, 5..6);
    for file in [TRAINING_FILE, MODEL_FILE] {
        let (path, aside) = (dir.path().join(file), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        let result = checkpoint::save(&mut trainer, &progress, dir.path());
        assert!(matches!(result, Err(Error::Io { .. })), "{file}: {result:?}");
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert_eq!(names(&dir), [MODEL_FILE, TRAINING_FILE], "nothing is left behind");
        assert!(read(MODEL_FILE) == before[0], "{file}: the old weights stay");
        assert_eq!(read(TRAINING_FILE) == before[1], file == TRAINING_FILE);
    }
    fs::write(dir.path().join(TRAINING_FILE), &before[1]).unwrap();
    checkpoint::save(&mut trainer, &progress, dir.path()).unwrap();
    assert!(read(TRAINING_FILE) != before[1], "and without obstacles the new one is written");
}

#[test]
fn leftovers_of_killed_saves_are_removed() {
    let dir = TempDir::new().unwrap();
    let left = [
        ".training.safetensors.a1B2c3D4.tmp",
        ".model.safetensors.ZZZZZZZZ.tmp",
        ".training.safetensors.tmp",
    ];
    let others = [".notes.tmp", ".training.safetensors.old", "training.safetensors.a1B2c3D4.tmp"];
    for name in left.iter().chain(&others) {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    saved(&dir, Adam::new(0.01));
    let mut expected = [&others[..], &[MODEL_FILE, TRAINING_FILE]].concat();
    expected.sort_unstable();
    assert_eq!(names(&dir), expected);

    fs::write(dir.path().join(left[0]), "x").unwrap();
    drop(DirectoryLock::acquire(dir.path()).unwrap());
    expected.push(".kiln.lock");
    expected.sort_unstable();
    assert_eq!(names(&dir), expected);
}

#[test]
fn a_directory_has_one_writer() {
    let dir = TempDir::new().unwrap();
    let lock = DirectoryLock::acquire(dir.path()).unwrap();
    let error = DirectoryLock::acquire(dir.path()).unwrap_err();
    let expected = format!("cannot lock {}: another run writes to it", dir.path().display());
    assert_eq!(error.to_string(), expected);
    drop(lock);
    DirectoryLock::acquire(dir.path()).unwrap();
    let error = DirectoryLock::acquire(dir.path().join("none")).unwrap_err();
    assert!(matches!(error, Error::Io { action: "lock", .. }), "{error}");
}

/// Somebody who can write to the directory must not reach files elsewhere through it.
#[cfg(unix)]
#[test]
fn planted_links_are_not_followed() {
    use std::os::unix::fs::symlink;
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    let hidden = [".training.safetensors.tmp", ".model.safetensors.a1B2c3D4.tmp"];
    for name in hidden.iter().chain(&[TRAINING_FILE, MODEL_FILE, "metrics.jsonl"]) {
        symlink(&victim, dir.path().join(name)).unwrap();
    }
    saved(&dir, Adam::new(0.01));
    write_atomically(dir.path().join("metrics.jsonl"), b"{}").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    for name in [TRAINING_FILE, MODEL_FILE, "metrics.jsonl"] {
        assert!(fs::symlink_metadata(dir.path().join(name)).unwrap().is_file(), "{name}");
    }

    let lock = dir.path().join(".kiln.lock");
    let created = elsewhere.path().join("created");
    symlink(&created, &lock).unwrap();
    let error = DirectoryLock::acquire(dir.path()).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
    assert!(!created.exists());
}

#[cfg(unix)]
#[test]
fn modes_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let (mut trainer, progress) = saved(&dir, Adam::new(0.01));
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
    fs::write(dir.path().join("plain"), "").unwrap();
    assert_eq!(mode(TRAINING_FILE), mode("plain"), "a new file has the usual mode");
    let modes = [(TRAINING_FILE, 0o600), (MODEL_FILE, 0o640)];
    for (name, wanted) in modes {
        let permissions = fs::Permissions::from_mode(wanted);
        fs::set_permissions(dir.path().join(name), permissions).unwrap();
    }
    checkpoint::save(&mut trainer, &progress, dir.path()).unwrap();
    for (name, wanted) in modes {
        assert_eq!(mode(name) & 0o777, wanted, "{name}");
    }
}

/// Saves of several threads to one directory do not meet in one temporary file.
#[test]
fn saves_at_the_same_time_are_whole() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.json");
    let texts: Vec<Vec<u8>> = (b'a'..=b'd').map(|letter| vec![letter; 100_000]).collect();
    std::thread::scope(|scope| {
        for text in &texts {
            let path = &path;
            scope.spawn(move || (0..20).for_each(|_| write_atomically(path, text).unwrap()));
        }
    });
    assert!(texts.contains(&fs::read(&path).unwrap()));
    assert_eq!(names(&dir), ["a.json"]);
}
