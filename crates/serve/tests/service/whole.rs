//! From a published plan to a decrypted answer, and what was seen on the way.

use crate::support::{Caller, Folder, Site, Toy, done, files_with, has, refused};
use polyveil::keys::{KeygenOptions, keygen};
use polyveil::machine::Machine;
use std::path::Path;

const ROW: [f64; 4] = [1.0, 0.5, 0.25, 0.75];

#[test]
fn a_client_gets_the_clear_networks_class_and_nobody_else_sees_anything() {
    let mut site = Site::new("whole", Toy::Small, "");
    let token = site.account("ada", "");
    let root = site.folder.path("");
    let at = |name: &str| format!("{root}{name}");
    let token_file = site.folder.file("ada.token", token.as_bytes());
    let keys = at("keys");
    let url = site.url();

    // enrol, keys, upload
    let enrol = format!("enrol {url} --token-file {token_file} -o {keys}");
    refused(&enrol, &["toy that protects nothing"]);
    done(&format!("{enrol} --insecure-toy"));
    let options = KeygenOptions {
        accept_toy: true,
        ..KeygenOptions::default()
    };
    let folder = Path::new(&keys);
    let client = folder.join("network.client");
    keygen(&client, folder, options, &Machine::default(), &mut |_| {}).expect("makes keys");
    let (_, said) = done(&format!("upload {keys}"));
    assert!(said.contains("are there"), "{said}");
    // what is there is not sent again
    let (_, said) = done(&format!("upload {keys}"));
    assert!(!said.contains("part"), "{said}");

    // ask
    let own = polyveil::Client::open(&folder.join("client.key"), None).expect("its key");
    let input = own
        .encrypt(&[polyveil::Input::Row(ROW.to_vec())])
        .expect("encrypts");
    let input = site.folder.file("x.input", &input);
    let answer = at("x.answer");
    let (_, said) = done(&format!("ask {input} --keys {keys} -o {answer}"));
    assert!(said.contains("job "), "{said}");
    let values = own
        .decrypt(&std::fs::read(&answer).expect("there"))
        .expect("can be right");
    let clear = nn::Tensor::new(nn::Shape::Vector(4), ROW.to_vec()).expect("fits");
    let clear = Toy::Small
        .network()
        .network()
        .evaluate(&clear)
        .expect("evaluates")
        .output;
    for (had, want) in values.iter().zip(clear.values()) {
        assert!((had - want).abs() < 1e-3, "{values:?} {clear:?}");
    }

    // a secret key is nothing that the client sends
    let secret = folder.join("client.key");
    let ask = format!("ask {} --keys {keys} -o {answer}", secret.display());
    refused(&ask, &["is a secret key", "nothing was sent"]);

    // the deployment is well
    let (_, said) = done(&format!("doctor {url} --token-file {token_file}"));
    assert!(said.contains("all is well"), "{said}");

    // a folder has one server
    let second = format!("start --data {} --listen 127.0.0.1:0", at("data"));
    refused(&second, &["another server has", "stop it first"]);

    // what the server keeps and says has no token, no input and no secret
    let caller = Caller {
        address: site.address,
        token: token.clone(),
    };
    let metrics = String::from_utf8(caller.get("/metrics").body).expect("text");
    assert!(
        metrics.contains("polyveil_jobs_total{state=\"done\"} 2"),
        "{metrics}"
    );
    site.stop();
    let said = site.said();
    let coefficients = std::fs::read(&secret).expect("there");
    let coefficients = &coefficients[192 + 12 + 64..192 + 12 + 128];
    let row: Vec<u8> = ROW.iter().flat_map(|v| v.to_le_bytes()).collect();
    let data = at("data");
    for secret in [token.as_bytes(), coefficients, &row] {
        assert!(!has(said.as_bytes(), secret) && !has(metrics.as_bytes(), secret));
        assert_eq!(
            files_with(&data, secret),
            [""; 0].map(std::path::PathBuf::from)
        );
    }
    for line in said.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        assert!(line["time"].is_number() && line["event"].is_string());
        // ids and digests are the longest that there is
        assert!(line.to_string().len() < 600, "{line}");
    }

    // jobs and keys go; the server comes back to them
    site.start("");
    done(&format!("forget {keys}"));
    assert!(files_with(&format!("{data}/keys"), b"PVEIL").is_empty());
    refused(
        &format!("ask {input} --keys {keys} -o {answer}"),
        &["no keys with digest", "upload"],
    );
}

#[test]
fn plans_that_protect_nothing_are_not_published_by_accident() {
    let folder = Folder::new("secure");
    Toy::Small.compile(&folder, "toy");
    let (plan, data) = (folder.path("toy.plan"), folder.path("data"));
    refused(
        &format!("plan add {plan} --data {data}"),
        &["protects nothing"],
    );
    done(&format!("plan add {plan} --data {data} --insecure-toy"));
    let (list, _) = done(&format!("plan list --data {data}"));
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(
        (&list[0]["name"], &list[0]["insecure"]),
        (&"toy".into(), &true.into())
    );
    let other = folder.file("other.plan", &std::fs::read(&plan).expect("there"));
    refused(
        &format!("plan add {other} --data {data} --insecure-toy"),
        &["other.client"],
    );
}
