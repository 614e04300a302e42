//! One input, against a bucket in memory.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use cloud::storage::Object;
use contract::{exit, message::Work, pack::Span};
use tokio::sync::Semaphore;

use super::*;

/// The work of input `j` in session `s`.
pub(crate) fn work() -> Work {
    contract::testing::work("bu1", "s", "j")
}

const RESULT: &str = "bu1/output/s/j/7-0";

/// Generation (0 when written by the engine), bytes and properties of an object.
pub(crate) type Stored = (i64, Vec<u8>, Properties);

/// Objects by name, and the failures of reading them.
#[derive(Default)]
pub(crate) struct Bucket {
    objects: RefCell<BTreeMap<String, Stored>>,
    /// Names of the objects that were read, in order.
    pub(crate) reads: RefCell<Vec<String>>,
    /// Parts of objects that were read, in order.
    pub(crate) parts: RefCell<Vec<Span>>,
    /// Access to objects whose names contain this is denied.
    pub(crate) denied_part: Option<&'static str>,
    denied: bool,
    /// Another run writes the result, and the input is deleted, before the input is read.
    overtaken: bool,
    /// Reads of objects whose names contain this wait for a permit.
    pub(crate) gate: Option<(&'static str, Rc<Semaphore>)>,
    /// Objects that another pod writes right before this one does.
    pub(crate) rival: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Bucket {
    fn with_input(bytes: &[u8]) -> Self {
        let bucket = Self::default();
        bucket.put("bu1/input/s/j", 7, bytes);
        bucket
    }

    pub(crate) fn put(&self, name: &str, generation: i64, bytes: &[u8]) {
        self.objects.borrow_mut().insert(name.to_owned(), (generation, bytes.to_vec(), Properties::default()));
    }

    pub(crate) fn object(&self, name: &str) -> Option<Stored> {
        self.objects.borrow().get(name).cloned()
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.objects.borrow().get(name).map(|(_, bytes, _)| String::from_utf8(bytes.clone()).unwrap())
    }
}

impl Objects for Bucket {
    async fn describe(&self, _: &str, object: &str) -> anyhow::Result<Option<Object>> {
        let described = |(generation, bytes, properties): &Stored| Object {
            name: object.to_owned(),
            generation: *generation,
            size: i64::try_from(bytes.len()).unwrap(),
            created: None,
            content_type: properties.content_type.clone(),
            metadata: properties.metadata.clone(),
        };
        Ok(self.objects.borrow().get(object).map(described))
    }

    async fn read(&self, _: &str, object: &str, generation: Option<i64>) -> anyhow::Result<Option<Contents>> {
        let denied = self.denied || self.denied_part.is_some_and(|part| object.contains(part));
        anyhow::ensure!(!denied, "read {object}: access denied");
        self.reads.borrow_mut().push(object.to_owned());
        if let Some((_, gate)) = self.gate.as_ref().filter(|(part, _)| object.contains(part)) {
            gate.acquire().await.unwrap().forget();
        }
        if self.overtaken {
            self.objects.borrow_mut().clear();
            self.put(RESULT, 0, b"theirs");
        }
        let objects = self.objects.borrow();
        let found = objects.get(object).filter(|(live, ..)| generation.is_none_or(|generation| generation == *live));
        Ok(found.map(|(_, bytes, _)| Contents { bytes: bytes.clone().into(), content_type: String::new() }))
    }

    async fn read_part(
        &self,
        bucket: &str,
        object: &str,
        generation: i64,
        part: Span,
    ) -> anyhow::Result<Option<Contents>> {
        let whole = self.read(bucket, object, Some(generation)).await?;
        self.parts.borrow_mut().push(part);
        let part = usize::try_from(part.offset).unwrap()..usize::try_from(part.offset + part.length).unwrap();
        Ok(whole.map(|whole| Contents { bytes: whole.bytes.slice(part), ..whole }))
    }

    async fn write_once(&self, _: &str, object: &str, bytes: Bytes, properties: Properties) -> anyhow::Result<Written> {
        if let Some(bytes) = self.rival.borrow_mut().remove(object) {
            self.put(object, 2, &bytes);
        }
        if self.objects.borrow().contains_key(object) {
            return Ok(Written::Exists);
        }
        self.objects.borrow_mut().insert(object.to_owned(), (0, bytes.to_vec(), properties));
        Ok(Written::New(1))
    }
}

pub(crate) fn settings(work: Work) -> Settings {
    let config = contract::testing::config(&["bu1"]);
    Settings { config, work, pod: "pod-a".into(), work_dir: std::env::temp_dir(), threads: 2, stop: None }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn run_once(bucket: &Bucket) -> Result<Done, Failure> {
    block_on(run(&settings(work()), None, bucket))
}

#[test]
fn a_result_is_written_once() {
    let bucket = Bucket::with_input(b"engine payload 1");
    assert_eq!(run_once(&bucket), Ok(Done::Completed));
    let result = bucket.text(RESULT).unwrap();
    assert_eq!(
        result.trim_end(),
        r#"{"kernel":"echo","payload":"engine payload 1","bytes":16,"sha256":"b1d1d58fa06dc5785b8539171955578364883372edc67428ab7878cd3d094819"}"#
    );
    let objects = bucket.objects.borrow().clone();
    let metadata = &objects[RESULT].2.metadata;
    assert_eq!(objects[RESULT].2.content_type, "application/json");
    for (key, value) in [("job", "j"), ("session", "s"), ("engine-version", VERSION)] {
        assert_eq!(metadata[key], value);
    }
    assert!(metadata["compute-seconds"].parse::<f64>().is_ok());
    // A second run, and a third without the input.
    bucket.put(RESULT, 0, b"first");
    assert_eq!(run_once(&bucket), Ok(Done::AlreadyDone));
    bucket.objects.borrow_mut().remove("bu1/input/s/j");
    assert_eq!(run_once(&bucket), Ok(Done::AlreadyDone));
    assert_eq!(bucket.text(RESULT).unwrap(), "first");
}

#[test]
fn a_missing_input_is_permanent_and_a_denied_one_is_not() {
    let failure = run_once(&Bucket::default()).unwrap_err();
    assert_eq!((failure.code, failure.exit_code()), ("input-missing", exit::PERMANENT));
    // Another generation is another input.
    let bucket = Bucket::default();
    bucket.put("bu1/input/s/j", 8, b"newer");
    assert_eq!(run_once(&bucket).unwrap_err().code, "input-missing");
    let denied = Bucket { denied: true, ..Bucket::with_input(b"x") };
    let failure = run_once(&denied).unwrap_err();
    assert_eq!(failure.exit_code(), exit::TRANSIENT);
    assert!(failure.message.contains("access denied"));
}

#[test]
fn a_run_that_another_run_overtook_is_done() {
    let bucket = Bucket { overtaken: true, ..Bucket::with_input(b"x") };
    assert_eq!(run_once(&bucket), Ok(Done::AlreadyDone));
    assert_eq!(bucket.text(RESULT).unwrap(), "theirs");
}

#[test]
fn a_malformed_input_leaves_no_result() {
    let failure = run_once(&Bucket::with_input(b"{\n  \"schema\": \"1\"}")).unwrap_err();
    assert_eq!((failure.code, failure.exit_code()), ("malformed-input", exit::PERMANENT));
    assert!(failure.message.starts_with("line 1, column 1: "), "{}", failure.message);
    assert!(failure.message.contains("line 2, column 13: schema: "), "{}", failure.message);
}

#[test]
fn a_program_finds_its_common_data() {
    let bucket = Bucket::with_input(b"3");
    bucket.put("bu1/common/s/rates/eur.txt", 1, b"4");
    let program = Program {
        command: ["sh", "-c", "cat $DESKGRID_INPUT - $DESKGRID_COMMON/rates/eur.txt"].map(str::to_owned).into(),
        permanent_exit_codes: vec![],
        timeout: None,
        max_output_bytes: Some(100),
        content_type: None,
        resident: false,
    };
    let mut work = work();
    work.common = vec!["rates/eur.txt".to_owned()];
    let done = block_on(run(&settings(work.clone()), Some(&program), &bucket));
    assert_eq!((done, bucket.text(RESULT).unwrap().as_str()), (Ok(Done::Completed), "334"));
    assert_eq!(bucket.objects.borrow()[RESULT].2.content_type, "text/plain; charset=utf-8");
    work.identity.attempt = 1;
    work.common = vec!["none".to_owned()];
    let failure = block_on(run(&settings(work), Some(&program), &bucket)).unwrap_err();
    assert_eq!(failure.code, "common-data-missing");
}

#[test]
fn a_table_is_priced_with_the_market_data_of_its_session() {
    let bucket = Bucket::with_input(b"id,kind,option,underlying,strike,maturity\na,european,call,A,100,1\n");
    let market = br#"{"schema": 1, "seed": 9, "paths": 1000, "underlyings": {"A": {"spot": 100, "volatility": 0.2, "rate": 0}}}"#;
    bucket.put("bu1/common/s/market.json", 1, market);
    let mut work = work();
    let failure = block_on(run(&settings(work.clone()), None, &bucket)).unwrap_err();
    assert!(failure.message.contains("needs market data"), "{}", failure.message);
    work.common = vec!["other.bin".to_owned(), "market.json".to_owned()];
    assert_eq!(block_on(run(&settings(work), None, &bucket)), Ok(Done::Completed));
    let result: serde_json::Value = serde_json::from_str(&bucket.text(RESULT).unwrap()).unwrap();
    assert!((result["trades"][0]["price"].as_f64().unwrap() - 7.97).abs() < 1.0);
    assert_eq!(bucket.objects.borrow()[RESULT].2.metadata["seed"], "9");
}

/// The settings of the business apply unless the program's own flags replace them.
#[test]
fn a_program_has_the_settings_of_its_business() {
    let program = |command: &str, permanent_exit_codes: Vec<u8>| Program {
        command: ["sh", "-c", command].map(str::to_owned).into(),
        permanent_exit_codes,
        timeout: None,
        max_output_bytes: None,
        content_type: None,
        resident: false,
    };
    let outcome = |program: &Program| {
        let mut settings = settings(work());
        let business = settings.config.businesses.get_mut("bu1").unwrap();
        business.engine.program = contract::config::Program {
            permanent_exit_codes: vec![65],
            timeout_secs: Some(1),
            max_output_bytes: Some(3),
            resident: false,
        };
        let failure = block_on(run(&settings, Some(program), &Bucket::with_input(b"x"))).unwrap_err();
        (failure.code, failure.permanent)
    };
    assert_eq!(outcome(&program("exit 65", vec![])), ("program-failed", true));
    assert_eq!(outcome(&program("exit 2", vec![])), ("program-failed", false));
    assert_eq!(outcome(&program("exit 65", vec![2])), ("program-failed", false));
    assert_eq!(outcome(&program("echo long", vec![])), ("output-too-large", true));
    assert_eq!(outcome(&program("exec sleep 600", vec![])), ("timeout", false));
}
