//! The page's folder: what of it is served, with which headers, and what is not.

use crate::support::{Folder, Site, Toy, refused, request};

#[test]
fn files_of_a_page_are_served_with_a_policy_and_nothing_else_of_the_folder() {
    let pages = Folder::new("page");
    pages.file("index.html", b"<!doctype html>");
    pages.file("page.js", b"// js");
    pages.file("client.wasm", b"\0asm");
    pages.file("client.key", b"secret");
    pages.file("notes.txt", b"secret");
    let site = Site::new(
        "page-site",
        Toy::Small,
        &format!("--page {}", pages.path("")),
    );
    // what lies there later is not served either
    pages.file("later.js", b"// later");
    let get =
        |path: &str, more: &str| request(site.address, &format!("GET {path} HTTP/1.1{more}"), b"");
    let mut tags = Vec::new();
    for (path, kind, body) in [
        ("/", "text/html; charset=utf-8", &b"<!doctype html>"[..]),
        (
            "/index.html",
            "text/html; charset=utf-8",
            b"<!doctype html>",
        ),
        ("/page.js", "text/javascript; charset=utf-8", b"// js"),
        ("/client.wasm", "application/wasm", b"\0asm"),
    ] {
        let reply = get(path, "");
        assert_eq!((reply.status, &reply.body[..]), (200, body), "{path}");
        assert_eq!(reply.header("content-type").as_deref(), Some(kind));
        assert_eq!(
            reply.header("x-content-type-options").as_deref(),
            Some("nosniff")
        );
        let policy = reply.header("content-security-policy").expect("a policy");
        for word in [
            "default-src 'none'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(word), "{policy}");
        }
        // nothing inline, nothing made of text, no other host
        for word in [
            "unsafe-inline",
            "'unsafe-eval'",
            "http:",
            "https:",
            "*",
            "data:",
        ] {
            assert!(!policy.contains(word), "{policy}");
        }
        tags.push(reply.header("etag").expect("a tag"));
    }
    let same = get("/page.js", &format!("\r\nif-none-match: {}", tags[2]));
    assert_eq!((same.status, same.body.len()), (304, 0));
    for path in [
        "/client.key",
        "/notes.txt",
        "/later.js",
        "/../client.key",
        "/%2e%2e/toy.plan",
        "//index.html",
        "/none",
    ] {
        get(path, "").refuses(404, "not_found");
    }
    let posted = request(
        site.address,
        "POST /page.js HTTP/1.1\r\ncontent-length: 0",
        b"",
    );
    posted.refuses(405, "wrong_method");
    // the interface is where it was
    get("/v1/plans", "").refuses(401, "no_token");
}

#[test]
fn a_folder_that_is_no_page_is_refused_at_the_start() {
    let folder = Folder::new("no-page");
    let data = folder.path("data");
    let line = format!("start --data {data} --page {}", folder.path(""));
    refused(&line, &["index.html", "web/build.sh"]);
    let site = Site::new("no-page-site", Toy::Small, "");
    let reply = request(site.address, "GET / HTTP/1.1", b"");
    reply.refuses(404, "not_found");
}
