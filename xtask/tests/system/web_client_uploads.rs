//! What comes into the client web app: names, what is wrong with an input, what is too large or too slow, and how much
//! memory an upload takes.

use std::time::Duration;

use bytes::Bytes;
use client::Uploads;
use provision::google::{Api, Method, Request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use web::Limits;

use crate::{
    sample::is_long,
    web_apps::{App, ONE, metadata, world},
    world::{eventually, programs},
};

const MALFORMED: &str = include_str!("../../../examples/malformed.json");
const BOOK: &str = include_str!("../../../examples/pricing/03-collar.json");
const TRADES: &str = include_str!("../../../examples/trades.csv");
const MARKET: &str = include_str!("../../../examples/market.json");

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_elsewhere_are_refused() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let long = "x".repeat(513);
    for job in
        ["../outcome/s/j", "a/../../b", "/etc/passwd", "a//b", ".", "a\nb", "a\0b", "\u{7f}", long.as_str(), "a/"]
    {
        let (status, answer) = app.put("bu1", "s", job, "x").await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad-name")), "{job:?}: {answer}");
    }
    for session in ["..", "../s", "refused", "a b", "<b>", ".batch", "a/b"] {
        let (status, answer) = app.put("bu1", session, "a.txt", "x").await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad-session")), "{session:?}: {answer}");
    }
    for (query, what) in [
        ("business=bu1&session=s", "no name"),
        ("business=bu1&job=a", "no session"),
        ("business=..%2Fbu1&session=s&job=a", ""),
    ] {
        let answer = app.request("PUT", &format!("/api/v1/inputs?{query}"), ONE).body("x").send().await.unwrap();
        assert!(matches!(answer.status().as_u16(), 400 | 404), "{what}");
    }
    // The same in a form, where browsers escape what cannot stand there.
    for name in ["../../x", "a%0D%0Ab", "..%2f..%2fx/.."] {
        let form = format!(
            "--x\r\nContent-Disposition: form-data; name=\"inputs\"; filename=\"{name}\"\r\n\r\nx\r\n--x--\r\n"
        );
        let request =
            app.request("POST", "/submit?business=bu1", ONE).header("content-type", "multipart/form-data; boundary=x");
        let answer = request.body(form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 422, "{name}");
        assert!(answer.text().await.unwrap().contains("cannot be the name of an input"), "{name}");
    }
    let objects = world.store.list(&world.business("bu1").bucket, "").await.unwrap();
    assert!(objects.iter().all(|object| !object.name.starts_with("bu1/")), "{objects:?}");
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_form_is_dropped_silently() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads { max_files: 2, ..Uploads::default() }, Limits::PRODUCTION).await;
    let submit = async |names: &[&str]| {
        let part =
            |name: &&str| format!("--x\r\nContent-Disposition: form-data; name=\"inputs\"; {name}\r\n\r\npayload\r\n");
        let form = format!("{}--x--\r\n", names.iter().map(part).collect::<String>());
        let request = app.request("POST", "/submit?business=bu1", ONE).body(form);
        let answer = request.header("content-type", "multipart/form-data; boundary=x").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = submit(&["filename*=UTF-8''caf%C3%A9.txt"]).await;
    assert_eq!(status, 303, "{text}");
    let (status, text) = submit(&["filename=\"a\"", "filename=\"b\"", "filename=\"c\"", "filename=\"d\""]).await;
    assert!(status == 422 && text.contains("2 files") && text.contains("were not submitted"), "{status}: {text}");
    let names: Vec<String> = world.objects("bu1", "input").await.into_iter().map(|object| object.name).collect();
    let ends = |end: &str| names.iter().any(|name| name.ends_with(end));
    assert!(names.len() == 3 && ends("/café.txt") && ends("/a") && ends("/b"), "{names:?}");
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_before_anything_is_submitted() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let (status, answer) = app.put("bu1", "s", "book.json", MALFORMED).await;
    let line = MALFORMED.lines().position(|line| line.contains("strike\": \"")).unwrap() + 1;
    assert_eq!(
        (status, &answer["code"], &answer["problems"][0]["line"]),
        (422, &json!("malformed-input"), &json!(line)),
        "{answer}"
    );
    assert!(answer["problems"][0]["field"].as_str().unwrap().ends_with(".strike"), "{answer}");
    assert!(world.objects("bu1", "input").await.is_empty());
    // A table with market data that is wrong in a row, checked and not submitted.
    let market = MARKET.replacen("\"row\"", "\"fail\"", 1);
    let table = TRADES.replacen(",call,", ",cal,", 1);
    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"market\"; filename=\"m\"\r\n\r\n{market}\r\n--x\r\nContent-Disposition: \
         form-data; name=\"input\"; filename=\"t\"\r\n\r\n{table}\r\n--x--\r\n"
    );
    let check = async |form: String| -> Value {
        let request = app.request("POST", "/api/v1/check?business=bu1&job=trades.csv", ONE);
        let request = request.header("content-type", "multipart/form-data; boundary=x").body(form);
        request.send().await.unwrap().json().await.unwrap()
    };
    let found = check(form.clone()).await;
    assert_eq!(
        (&found["verdict"], &found["problems"][0]["field"]),
        (&json!("wrong"), &json!("trades[0].option")),
        "{found}"
    );
    assert_eq!(check(form.replacen(",cal,", ",call,", 1)).await["verdict"], "good");
    // Twice the same is one; something else of the same name is refused.
    assert_eq!(app.put("bu1", "s", "book.json", BOOK).await.1["fate"], "submitted");
    assert_eq!(app.put("bu1", "s", "book.json", BOOK).await.1["fate"], "repeated");
    let (status, answer) = app.put("bu1", "s", "book.json", BOOK.replacen("seed\": 2", "seed\": 3", 1)).await;
    assert_eq!((status, &answer["code"]), (409, &json!("name-taken")), "{answer}");
    assert_eq!(world.objects("bu1", "input").await.len(), 1);
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_of_one_request_each_have_their_result() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let post = async |files: &[(&str, &str)]| -> (u16, Value) {
        let part = |(name, text): &(&str, &str)| {
            format!("--x\r\nContent-Disposition: form-data; name=\"inputs\"; filename=\"{name}\"\r\n\r\n{text}\r\n")
        };
        let form = format!("{}--x--\r\n", files.iter().map(part).collect::<String>());
        let request = app.request("POST", "/api/v1/inputs?business=bu1&session=s", ONE).body(form);
        let answer = request.header("content-type", "multipart/form-data; boundary=x").send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let all = [("a/b.txt", "x"), ("book.json", BOOK), ("malformed.json", MALFORMED), ("../c", "x")];
    let results = async |files: &[(&str, &str)]| {
        let (status, answer) = post(files).await;
        assert_eq!(status, 200, "{answer}");
        let result = |input: &Value| {
            let found = input.get("fate").unwrap_or(&input["code"]).as_str().unwrap().to_owned();
            format!("{} {found}", input["job"].as_str().unwrap())
        };
        answer["inputs"].as_array().unwrap().iter().map(result).collect::<Vec<_>>()
    };
    let expected = ["../c bad-name", "a/b.txt submitted", "book.json submitted", "malformed.json malformed-input"];
    assert_eq!(results(&all).await, expected);
    // Once more, with other contents under one name: the app may not read what is there.
    let other = BOOK.replacen("seed\": 2", "seed\": 3", 1);
    let again = [("a/b.txt", "x"), ("book.json", &*other), ("new.txt", "x")];
    assert_eq!(results(&again).await, ["a/b.txt repeated", "book.json name-taken", "new.txt submitted"]);
    assert_eq!(world.objects("bu1", "input").await.len(), 3);
    let (status, answer) = post(&[("twice", "x"), ("twice", "y")]).await;
    assert!(status == 400 && answer["what"].as_str().unwrap().contains("twice"), "{answer}");
    let large = "x".repeat(5 << 20);
    assert_eq!(post(&[("large", &large)]).await.0, 413);
    assert_eq!(world.objects("bu1", "input").await.len(), 3);
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_uploaded_for_an_orchestrator_that_no_message_reaches() {
    let world = world(&["bu1"]).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let subscription = format!("v1/{}", world.business("bu1").subscription);
    world.clients.google.send(&Request::new(Api::Pubsub, Method::Delete, subscription)).await.unwrap();
    let (status, answer) = app.put("bu1", "s", "book.json", BOOK).await;
    assert_eq!((status, &answer["code"]), (503, &json!("not-found")), "{answer}");
    assert!(answer["why"].as_str().unwrap().contains("no subscription"), "{answer}");
    assert!(world.objects("bu1", "input").await.is_empty());
    app.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_slow_is_refused_with_words() {
    let world = world(&["bu1"]).await;
    let second = Duration::from_secs(1);
    let limits = Limits { idle: second, grace: 2 * second, ..Limits::PRODUCTION };
    let app = App::start(&world, Uploads { max_bytes: 1024 * 1024, ..Uploads::default() }, limits).await;
    let is_too_large = |(status, answer): (u16, Value)| {
        assert_eq!((status, &answer["code"]), (413, &json!("too-large")), "{answer}");
        assert!(answer["why"].as_str().unwrap().contains("1 MiB") && answer["next"].is_string(), "{answer}");
    };
    is_too_large(app.put("bu1", "s", "a.bin", vec![b'x'; 1024 * 1024 + 1]).await);
    let pieces = futures::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 32 * 1024]))));
    is_too_large(app.put("bu1", "s", "a.bin", reqwest::Body::wrap_stream(pieces)).await);
    // One that stops coming.
    let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "PUT /api/v1/inputs?business=bu1&session=s&job=slow.bin HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ONE}\r\n\
         Content-Length: 1000\r\n\r\nonly this",
        app.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("it ends");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too-slow"), "{answer}");
    // One that breaks off.
    let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
    stream.write_all(head.replace("slow.bin", "broken.bin").as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(app.put("bu1", "s", "good.bin", vec![b'x'; 1024 * 1024]).await.0, 201);
    let names: Vec<String> = world.objects("bu1", "input").await.into_iter().map(|object| object.name).collect();
    assert_eq!(names, ["bu1/input/s/good.bin"], "nothing of what was refused is there");
    app.stop().await;
    world.stop().await;
}

/// Most memory that a process has had, in KiB.
fn most_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_does_not_grow_the_program() {
    let mib: usize = if is_long() { 1024 } else { 96 };
    let world = world(&["bu1"]).await;
    let folder = world.folder();
    std::fs::write(folder.join("tokens"), ONE).unwrap();
    std::fs::write(folder.join("config.json"), serde_json::to_string(&world.rendered.config).unwrap()).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut program = tokio::process::Command::new(&programs()["client"])
        .args(["--config", "config.json"])
        .current_dir(&folder)
        .env_clear()
        .env("DESKGRID_ACCESS_TOKEN_FILE", "tokens")
        .env("DESKGRID_LISTEN", "127.0.0.1:0")
        .env("GCE_METADATA_HOST", metadata(&world, "web-client").await.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(folder.join("log")).unwrap();
    let address = || {
        let line = said().lines().find(|line| line.contains("\"serving\""))?.to_owned();
        serde_json::from_str::<Value>(&line).ok()?["address"].as_str().map(str::to_owned)
    };
    eventually("it serves", async || address().is_some()).await;
    let address = address().unwrap();
    let http = reqwest::Client::new();
    let put = async |job: &str, mib: usize| {
        let pieces = (0..mib * 4).map(|number| Ok::<_, std::io::Error>(Bytes::from(vec![number as u8; 256 * 1024])));
        let url = format!("http://{address}/api/v1/inputs?business=bu1&session=s&job={job}");
        let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        let answer = http.put(url).bearer_auth(ONE).body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201, "{:?} {}", answer.text().await, said());
    };
    // Whatever it takes once: connections, credentials, the window of an upload.
    put("small.bin", 24).await;
    let pid = program.id().unwrap();
    let before = most_memory_kib(pid);
    put("large.bin", mib).await;
    let grown = most_memory_kib(pid).saturating_sub(before);
    println!("{mib} MiB: {before} KiB before, {grown} KiB more at most");
    assert!(grown < 24 * 1024, "it grew by {grown} KiB");
    let objects = world.objects("bu1", "input").await;
    let large = objects.iter().find(|object| object.name.ends_with("large.bin")).unwrap();
    assert_eq!(large.size, i64::try_from(mib * 1024 * 1024).unwrap());
    program.start_kill().unwrap();
    program.wait().await.unwrap();
    world.stop().await;
}
