use super::*;
use std::os::unix::fs::symlink;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("polyveil-disk-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(&self.0).expect("a folder");
        let name = |e: Result<std::fs::DirEntry>| e.expect("entry").file_name();
        let mut names: Vec<_> = all
            .map(|e| name(e).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("text")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").mode() & 0o777
}

#[test]
fn the_old_file_stays_until_the_new_one_is_whole() {
    let f = Folder::new("whole");
    let path = f.at("x");
    write(&path, Access::Everyone, b"old").expect("writes");
    let mut output = Output::create(&path, Access::Everyone).expect("opens");
    output.write_all(b"half").expect("writes");
    assert_eq!(text(&path), "old");
    drop(output);
    assert_eq!((text(&path).as_str(), f.names()), ("old", vec!["x".into()]));
    write(&path, Access::Everyone, b"new").expect("writes");
    assert_eq!((text(&path).as_str(), f.names()), ("new", vec!["x".into()]));
}

#[test]
fn secrets_are_their_owners_alone_whatever_lies_there() {
    let f = Folder::new("secrets");
    let key = f.at("key");
    // names that a planted file could have had before names were random
    for name in ["key.partial", "key.part", "key"] {
        std::fs::write(f.at(name), "planted").expect("writes");
        std::fs::set_permissions(f.at(name), Permissions::from_mode(0o666)).expect("mode");
    }
    let output = Output::create(&key, Access::Owner).expect("opens");
    let temporary = &output.place.as_ref().expect("beside").temporary;
    assert_eq!(mode(temporary), 0o600);
    output.finish().expect("writes");
    assert_eq!(
        (mode(&key), text(&f.at("key.partial")).as_str()),
        (0o600, "planted")
    );
    symlink(f.at("elsewhere"), f.at("link")).expect("link");
    symlink(f.at("key"), f.at("link2")).expect("link");
    for link in ["link", "link2"] {
        let e = Output::create(&f.at(link), Access::Owner).expect_err("a link");
        assert!(e.to_string().contains("symbolic link"), "{e}");
    }
    assert!(!f.at("elsewhere").exists());
    assert!(Output::create(Path::new("/dev/null"), Access::Owner).is_err());
}

#[test]
fn a_secret_s_file_is_private_from_the_moment_it_is_there() {
    let f = Folder::new("born-private");
    let made = |name: &str, access| {
        let file = create_new(&f.at(name), access).expect("makes");
        file.expect("a new name").metadata().expect("mode").mode() & 0o777
    };
    assert_eq!(made("secret", Access::Owner), 0o600);
    assert_eq!(made("other", Access::Everyone) & 0o600, 0o600);
}

#[test]
fn an_output_may_end_in_another_place() {
    let f = Folder::new("elsewhere");
    std::fs::write(f.at("x"), "old").expect("writes");
    let mut output = Output::create(&f.at("x"), Access::Everyone).expect("opens");
    output.write_all(b"new").expect("writes");
    output.finish_at(&f.at("y")).expect("writes");
    assert_eq!(
        (text(&f.at("x")), text(&f.at("y"))),
        ("old".into(), "new".into())
    );
    assert_eq!(f.names(), ["x", "y"]);
}

#[test]
fn links_are_followed_devices_and_pipes_written_to() {
    let f = Folder::new("devices");
    std::fs::write(f.at("real"), "old").expect("writes");
    std::fs::set_permissions(f.at("real"), Permissions::from_mode(0o640)).expect("mode");
    symlink("real", f.at("link")).expect("link");
    write(&f.at("link"), Access::Everyone, b"new").expect("writes");
    assert!(f.at("link").is_symlink());
    assert_eq!(
        (text(&f.at("real")).as_str(), mode(&f.at("real"))),
        ("new", 0o640)
    );
    symlink("later", f.at("dangling")).expect("link");
    write(&f.at("dangling"), Access::Everyone, b"made").expect("writes");
    assert_eq!(text(&f.at("later")), "made");
    // a device stays one, also for who may replace it
    write(Path::new("/dev/null"), Access::Everyone, b"x").expect("writes");
    assert!(!std::fs::metadata("/dev/null").expect("device").is_file());
    let fifo = f.at("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || text(&fifo)
    });
    write(&fifo, Access::Everyone, b"through").expect("writes");
    assert_eq!(reader.join().expect("reads"), "through");
    assert!(!std::fs::metadata(&fifo).expect("fifo").is_file());
}

#[test]
fn what_cannot_be_written_is_refused_at_once() {
    let f = Folder::new("refused");
    let refused = |path: &Path| Output::create(path, Access::Everyone).expect_err("refused");
    assert_eq!(refused(&f.0).kind(), ErrorKind::IsADirectory);
    let e = refused(&f.at("no/such/x"));
    assert!(e.to_string().contains("no/such does not exist"), "{e}");
    refused(Path::new(""));
    symlink("a", f.at("b")).expect("link");
    symlink("b", f.at("a")).expect("link");
    refused(&f.at("a"));
    assert_eq!(f.names(), ["a", "b"]);
}

#[test]
fn left_overs_of_the_dead_go_those_of_the_living_stay() {
    let f = Folder::new("left");
    let path = f.at("x");
    std::fs::write(f.at("x.0123abcd.partial"), "dead").expect("writes");
    for other in ["x.partial", "x.012.partial", "y.0123abcd.partial"] {
        std::fs::write(f.at(other), "another's").expect("writes");
    }
    let first = Output::create(&path, Access::Everyone).expect("opens");
    assert_eq!(first.cleaned(), [f.at("x.0123abcd.partial")]);
    let mut second = Output::create(&path, Access::Everyone).expect("opens");
    assert_eq!(second.cleaned(), [] as [PathBuf; 0]);
    second.write_all(b"second").expect("writes");
    first.finish().expect("writes");
    second.finish().expect("writes");
    assert_eq!(text(&path), "second");
    assert_eq!(
        f.names(),
        ["x", "x.012.partial", "x.partial", "y.0123abcd.partial"]
    );
}

#[test]
fn the_longest_names_are_written() {
    let f = Folder::new("long");
    for length in [246, 250, 255] {
        let path = f.at(&"n".repeat(length));
        write(&path, Access::Everyone, b"x").expect("writes");
        assert_eq!(text(&path), "x");
    }
}

#[test]
fn one_file_has_many_names() {
    let f = Folder::new("names");
    std::fs::write(f.at("x"), "").expect("writes");
    std::fs::hard_link(f.at("x"), f.at("hard")).expect("link");
    symlink("x", f.at("soft")).expect("link");
    for other in ["hard", "soft", "./x"] {
        assert!(same_file(&f.at("x"), &f.at(other)), "{other}");
    }
    symlink("new", f.at("dangling")).expect("link");
    assert!(same_file(&f.at("new"), &f.at("dangling")));
    assert!(!same_file(&f.at("new"), &f.at("newer")));
    assert!(!same_file(&f.at("new"), &f.at("x")));
}
