//! What belongs to one account is not there for another, and what is not what it says is not kept.

use crate::support::{Caller, Party, Site, Toy, files_with, has, hash, request};

struct Two {
    site: Site,
    ada: Caller,
    eve: Caller,
    party: Party,
}

fn two(name: &str, toy: Toy) -> Two {
    let site = Site::new(name, toy, "");
    let caller = |account: &str| Caller {
        address: site.address,
        token: site.account(account, ""),
    };
    let (ada, eve) = (caller("ada"), caller("eve"));
    let party = site.client("ada");
    Two {
        site,
        ada,
        eve,
        party,
    }
}

#[test]
fn anothers_job_keys_and_token_are_not_there() {
    let t = two("strangers", Toy::Small);
    let keys = t.ada.upload(&t.party.keys);
    let input = t.party.input([0.5; 4]);
    let job = t.ada.job(&keys, "one", &input);
    let answer = t.ada.answer(&job);
    // the same words for what is another's and for what was never there
    let none = "0".repeat(32);
    for (method, path) in [
        ("GET", ""),
        ("GET", "/answer"),
        ("GET", "/events"),
        ("DELETE", ""),
    ] {
        let [others, nobodys] =
            [&job, &none].map(|id| t.eve.call(method, &format!("/v1/jobs/{id}{path}"), "", &[]));
        others.refuses(404, "no_such_job");
        assert_eq!(others.body, nobodys.body);
        assert!(!has(&others.body, &answer[..32]));
    }
    for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/commit")] {
        let [others, nobodys] = [&keys, &"0".repeat(64)]
            .map(|d| t.eve.call(method, &format!("/v1/keys/{d}{path}"), "", &[]));
        others.refuses(404, "no_such_keys");
        // but for the digest that was asked for
        assert_eq!(others.body.len(), nobodys.body.len());
    }
    assert_eq!(
        t.eve
            .call("HEAD", &format!("/v1/keys/{keys}"), "", &[])
            .status,
        404
    );
    t.eve
        .part(&keys, 0, &t.party.keys)
        .refuses(404, "no_such_keys");
    t.eve.ask(&keys, "one", &input).refuses(404, "no_such_keys");
    assert_eq!(t.eve.get("/v1/jobs").body, b"[]");
    assert_eq!(t.eve.get("/v1/keys").body, b"[]");
    // who declares another's digest is told nothing of it, and must have the file
    let declared = t.eve.declare(&t.party.keys).json();
    assert_eq!(
        (&declared["state"], &declared["missing"]),
        (&"uploading".into(), &"0".into())
    );
    t.eve.upload(&t.party.keys);
    assert_eq!(
        t.eve
            .call("DELETE", &format!("/v1/keys/{keys}"), "", &[])
            .status,
        204
    );
    // one content is one file, which stays as long as somebody has it
    assert_eq!(
        t.ada.get(&format!("/v1/keys/{keys}")).json()["state"],
        "ready"
    );
    let again = t.ada.job(&keys, "two", &input);
    assert!(t.ada.answer(&again) == answer);

    // no token, a wrong one, one of an account that went
    let paths = [
        "/v1/account",
        "/v1/plans",
        "/v1/plans/toy/client",
        "/v1/jobs",
    ];
    for path in paths {
        let none = request(t.site.address, &format!("GET {path} HTTP/1.1"), &[]);
        none.refuses(401, "no_token");
        let wrong = Caller {
            address: t.site.address,
            token: format!("pv_{}", "0".repeat(64)),
        };
        wrong.get(path).refuses(403, "unknown_token");
    }
    // another token for the same account: the old one is none any more
    let renewed = Caller {
        address: t.site.address,
        token: t.site.operate("account renew ada").trim().into(),
    };
    t.ada.get("/v1/account").refuses(403, "unknown_token");
    assert!(renewed.get(&format!("/v1/jobs/{job}/answer")).body == answer);
    let kept = t.site.folder.path("data");
    let token = renewed.token.as_bytes();
    assert!(files_with(&kept, token).is_empty() && !has(t.site.said().as_bytes(), token));
    t.site.operate("account remove ada");
    renewed
        .get(&format!("/v1/jobs/{job}/answer"))
        .refuses(403, "unknown_token");
    t.ada
        .get(&format!("/v1/jobs/{job}/answer"))
        .refuses(403, "unknown_token");
    // nor does whoever has the name next
    let next = Caller {
        address: t.site.address,
        token: t.site.account("ada", ""),
    };
    next.get(&format!("/v1/jobs/{job}"))
        .refuses(404, "no_such_job");
    assert_eq!(next.get("/v1/keys").body, b"[]");
    for kind in ["keys", "answers"] {
        let left =
            std::fs::read_dir(t.site.folder.path(&format!("data/{kind}"))).expect("a folder");
        assert_eq!(left.count(), 0, "{kind}");
    }
}

#[test]
fn parts_are_kept_once_wherever_they_come_and_only_as_they_are() {
    let t = two("parts", Toy::Large);
    let (keys, ada) = (&t.party.keys, &t.ada);
    let part = 4 << 20;
    let digest = hash(keys);
    let parts: Vec<&[u8]> = keys.chunks(part).collect();
    assert!(parts.len() > 2);
    let last = parts.len() - 1;
    assert_eq!(ada.declare(keys).status, 201);
    ada.commit(&digest).refuses(409, "keys_incomplete");
    // altered on the way, cut, too long, in no place
    let mut altered = parts[0].to_vec();
    altered[1000] ^= 1;
    let of = |bytes: &[u8]| format!("polyveil-digest: {}\r\n", hash(bytes));
    let put = |offset: usize, said: &str, bytes: &[u8]| {
        ada.call(
            "PUT",
            &format!("/v1/keys/{digest}/parts/{offset}"),
            said,
            bytes,
        )
    };
    put(0, &of(parts[0]), &altered).refuses(422, "altered");
    put(0, &of(&parts[0][1..]), &parts[0][1..]).refuses(422, "altered");
    put(last * part, &of(parts[0]), parts[0]).refuses(413, "too_large");
    put(17, &of(parts[0]), parts[0]).refuses(400, "bad_request");
    put(keys.len() * 2, &of(parts[0]), parts[0]).refuses(400, "bad_request");
    put(0, "", parts[0]).refuses(400, "bad_request");
    // the second one first, as the first one: no header of keys
    put(0, &of(parts[1]), parts[1]).refuses(422, "wrong_file");
    // replayed, and out of order
    for i in (0..parts.len()).rev() {
        for _ in 0..2 {
            assert_eq!(ada.part(&digest, i * part, parts[i]).status, 200);
        }
        if i == last {
            let head = ada.call("HEAD", &format!("/v1/keys/{digest}"), "", &[]);
            let missing = format!("0-{}", last - 1);
            assert_eq!(head.header("polyveil-missing"), Some(missing));
        }
    }
    // one in another's place, with a digest that is right: found by the whole, and all is to be sent again
    put(part, &of(&altered), &altered);
    ada.commit(&digest).refuses(422, "altered");
    let head = ada.call("HEAD", &format!("/v1/keys/{digest}"), "", &[]);
    assert_eq!(head.header("polyveil-missing"), Some(format!("0-{last}")));
    ada.upload(keys);
    // complete ones are not written to
    ada.part(&digest, 0, parts[0]).refuses(409, "part_differs");
    assert_eq!(ada.commit(&digest).status, 200);
}

#[test]
fn a_secret_key_is_refused_by_its_header_and_nothing_of_it_is_kept() {
    let t = two("secret", Toy::Small);
    let secret = t
        .party
        .client
        .keys()
        .write(Vec::new(), "x")
        .expect("writes");
    // long enough to pass for keys
    let mut sent = secret.clone();
    sent.resize(t.party.keys.len(), 0);
    let digest = hash(&sent);
    assert_eq!(t.ada.declare(&sent).status, 201);
    let refused = t.ada.part(&digest, 0, &sent).refuses(422, "secret_key");
    assert!(
        refused["remedy"]
            .as_str()
            .is_some_and(|r| r.contains("new keys"))
    );
    let keys = t.ada.upload(&t.party.keys);
    t.ada.ask(&keys, "one", &secret).refuses(422, "wrong_file");
    let data = t.site.folder.path("data");
    assert_eq!(
        crate::support::files_with(&data, &secret[204..268]).len(),
        0
    );
    assert!(t.site.said().contains("secret_key_refused"));
}

#[test]
fn inputs_are_of_the_plan_and_the_keys_or_refused() {
    let t = two("inputs", Toy::Small);
    let keys = t.ada.upload(&t.party.keys);
    let input = t.party.input([0.5; 4]);
    // altered on the way; another client's; no input; cut; longer than one can be
    let path = format!("/v1/jobs?plan=toy&keys={keys}");
    let named = |digest: &str| format!("polyveil-digest: {digest}\r\nidempotency-key: x\r\n");
    let mut altered = input.clone();
    altered[5000] ^= 1;
    let sent = |digest: &str, bytes: &[u8]| t.ada.call("POST", &path, &named(digest), bytes);
    sent(&hash(&input), &altered).refuses(422, "altered");
    let other = t.site.client("other").input([0.5; 4]);
    t.ada.ask(&keys, "x", &other).refuses(422, "wrong_file");
    t.ada
        .ask(
            &keys,
            "x",
            &t.party.keys[..input.len().min(t.party.keys.len())],
        )
        .refuses(422, "wrong_file");
    t.ada
        .ask(&keys, "x", &input[..1000])
        .refuses(422, "wrong_file");
    t.ada.ask(&keys, "x", b"").refuses(422, "wrong_file");
    t.ada
        .ask(&keys, "x", &vec![0; 10 * input.len()])
        .refuses(413, "too_large");
    t.ada
        .call("POST", &path, "idempotency-key: x\r\n", &input)
        .refuses(400, "bad_request");
    let digest = format!("polyveil-digest: {}\r\n", hash(&input));
    t.ada
        .call("POST", &path, &digest, &input)
        .refuses(400, "bad_request");
    t.ada
        .call(
            "POST",
            &format!("/v1/jobs?plan=none&keys={keys}"),
            &named(&hash(&input)),
            &input,
        )
        .refuses(404, "no_such_plan");
    // damaged before its digest was taken: the job says so
    let damaged = t.ada.ask(&keys, "damaged", &altered);
    assert_eq!(damaged.status, 202);
    let id = damaged.json()["id"].as_str().expect("an id").to_string();
    let failed = loop {
        let job = t.ada.get(&format!("/v1/jobs/{id}")).json();
        if job["state"] == "failed" {
            break job;
        }
        assert_ne!(job["state"], "done");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert_eq!(failed["error"]["code"], "wrong_file", "{failed}");
    t.ada
        .get(&format!("/v1/jobs/{id}/answer"))
        .refuses(422, "wrong_file");
    // a request that failed may be sent again under its name
    let again = t.ada.ask(&keys, "damaged", &input).json();
    let answer = t.ada.answer(again["id"].as_str().expect("an id"));
    assert_eq!(t.party.class(&answer), 0);
    // the same once more is the same job; another under its name is none
    assert_eq!(
        t.ada.ask(&keys, "damaged", &input).json()["id"],
        again["id"]
    );
    t.ada
        .ask(&keys, "damaged", &t.party.input([0.25; 4]))
        .refuses(409, "idempotency_conflict");
    // none of this left anything
    let left = std::fs::read_dir(t.site.folder.path("data/inputs")).expect("a folder");
    assert_eq!(left.count(), 0);
}
