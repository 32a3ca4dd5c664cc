//! Files that do not belong together.

use super::kills::own_client;
use crate::attempt::{Done, Try};
use crate::case::{Case, case};
use crate::fault::{Fault, Kind, Verdict};
use crate::lab::Lab;

groups! {
    beside "pairs" 24 pairs "every kind of file as key and as answer of `decrypt`, as key and client file of `encrypt`: refused unless right";
    beside "triples" 24 triples "plan × keys × input of `run`, of three networks and two clients: refused unless right";
    beside "two-clients" 12 two_clients "keys, inputs and answers of two clients of one plan: refused, or right";
    beside "two-clients-share" 3 two_clients_share "another client's answer shared: refused";
    beside "check-wrong-key" 4 check_wrong_key "`run --check` with another client.key: refused for that reason";
}

/// Every kind of file there is.
pub(super) const KINDS: [&str; 13] = [
    "@lev/A/client.key",
    "@lev/A/evaluation.keys",
    "@lev/A/x.input",
    "@lev/A/x.answer",
    "@lev/net.plan",
    "@lev/net.client",
    "@lev/net.pvm",
    "@lev/B/client.key",
    "@lev/B/x.answer",
    "@boot/A/client.key",
    "@boot/A/x.answer",
    "@0.png",
    "@pictures.npz",
];

fn quick(done: &Done) -> Verdict {
    Kind::Other.unless(
        done.wall.as_secs() < 20,
        "a refusal that takes more than 20 s",
    )
}

fn pairs(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for net in ["lev", "boot"] {
        for key in KINDS {
            for answer in KINDS {
                let right = [
                    ("@lev/A/client.key", "@lev/A/x.answer", "lev"),
                    ("@lev/B/client.key", "@lev/B/x.answer", "lev"),
                    ("@boot/A/client.key", "@boot/A/x.answer", "boot"),
                ];
                let right = right.contains(&(key, answer, net));
                all.push(case(format!("{key} {answer} {net}"), move |t| {
                    let line =
                        format!("decrypt --key {key} --client @{net}/net.client {answer} --json");
                    let done = t.polyveil(&line)?;
                    quick(&done)?;
                    match right {
                        true => done.ok().map(drop),
                        false => done.refused(&[]).map(drop),
                    }
                }));
            }
        }
    }
    for key in KINDS {
        for client in KINDS {
            let right = key.starts_with("@lev/") && key.ends_with("client.key");
            let right = right && client == "@lev/net.client";
            all.push(case(format!("{key} {client} encrypt"), move |t| {
                let line =
                    format!("encrypt --key {key} --client {client} --image @0.png -o x.input");
                let done = t.polyveil(&line)?;
                match right {
                    true => done.ok().map(drop),
                    false => {
                        done.refused(&[])?;
                        t.leftovers(".", &[])
                    }
                }
            }));
        }
    }
    all
}

/// The index of a client's picture.
fn picture(client: &str) -> usize {
    usize::from(client == "B")
}

fn triples(_: &Lab) -> Vec<Case> {
    let whose = [
        ("lev", "A"),
        ("lev", "B"),
        ("other", "A"),
        ("boot", "A"),
        ("boot", "B"),
        ("deep", "A"),
    ];
    let mut all = Vec::new();
    let mut add = |plan: &'static str,
                   keys: String,
                   input: String,
                   right: Option<(&'static str, &'static str)>| {
        all.push(case(format!("{plan} {keys} {input}"), move |t| {
            let line = format!(
                "run --plan @{plan}/net.plan --keys {keys} --input {input} -o x.answer --no-probe --machine shipped"
            );
            let done = t.polyveil(&line)?;
            quick(&done)?;
            match right {
                Some((net, client)) => {
                    done.ok()?;
                    let pixels = t.pixels(picture(client));
                    t.right(net, &format!("@{net}/{client}/client.key"), "x.answer", &pixels)
                }
                None => {
                    done.refused(&[])?;
                    t.leftovers(".", &[])
                }
            }
        }));
    };
    for plan in ["lev", "other", "boot", "deep"] {
        for keys in whose {
            for input in whose {
                let right = (keys == input && plan == keys.0).then_some(keys);
                add(
                    plan,
                    format!("@{}/{}/evaluation.keys", keys.0, keys.1),
                    format!("@{}/{}/x.input", input.0, input.1),
                    right,
                );
            }
        }
        for wrong in KINDS {
            if wrong != "@lev/A/evaluation.keys" {
                add(plan, wrong.into(), "@lev/A/x.input".into(), None);
            }
            if wrong != "@lev/A/x.input" {
                add(plan, "@lev/A/evaluation.keys".into(), wrong.into(), None);
            }
        }
    }
    all
}

const NETS: [&str; 3] = ["lev", "boot", "deep"];

fn two_clients(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for net in NETS {
        // one client's keys on the other's input, decrypted by either; one client's answer decrypted by the other
        for (keys, input) in [("A", "B"), ("B", "A")] {
            for reader in ["A", "B"] {
                for disk in ["", "--keys-on-disk"] {
                    all.push(case(format!("{net} keys {keys} input {input} reader {reader} {disk}"), move |t| {
                        let line = format!(
                            "run --plan @{net}/net.plan --keys @{net}/{keys}/evaluation.keys --input @{net}/{input}/x.input -o x.answer --no-probe --machine shipped {disk}"
                        );
                        let done = t.polyveil(&line)?;
                        if done.code != Some(0) {
                            return done.refused(&["key"]).map(drop);
                        }
                        let pixels = t.pixels(picture(input));
                        t.refused_or_right(net, &format!("@{net}/{reader}/client.key"), "x.answer", &pixels)?;
                        Err(Fault::other("keys of one client were used on another's input"))
                    }));
                }
            }
            for json in ["", "--json"] {
                all.push(case(
                    format!("{net} answer {input} by {keys} {json}"),
                    move |t| {
                        let line = format!(
                            "decrypt --key @{net}/{keys}/client.key @{net}/{input}/x.answer {json}"
                        );
                        t.polyveil(&line)?.refused(&["key"]).map(drop)
                    },
                ));
            }
        }
    }
    all
}

fn two_clients_share(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for net in NETS {
        for how in [
            "--share --class-only --releases 10",
            "--share --releases 10",
        ] {
            all.push(case(format!("{net} {how}"), move |t| {
                own_client(t, net)?;
                let line = format!("decrypt --key c/client.key @{net}/B/x.answer {how}");
                let done = t.polyveil(&line)?;
                Kind::Silent.unless(done.code != Some(0), "noise was shared as a class")?;
                done.refused(&["key"]).map(drop)
            }));
        }
    }
    all
}

fn check_wrong_key(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for net in NETS {
        for (mine, key) in [("A", "B"), ("B", "A"), ("A", "other")] {
            all.push(case(
                format!("{net} {mine} with {key}"),
                move |t: &mut Try<'_>| {
                    let key = match key {
                        "other" => "@other/A/client.key".into(),
                        key => format!("@{net}/{key}/client.key"),
                    };
                    let done = t.run(net, mine, &format!("--check --key {key}"))?;
                    let blamed = done.code == Some(3) || done.stderr.contains("layer");
                    Kind::Other.unless(!blamed, format!("it blames a layer: {}", done.last()))?;
                    done.refused(&["key"]).map(drop)
                },
            ));
        }
    }
    all
}
