//! Many inputs in one pod, against a bucket in memory.

use contract::{
    Identity,
    batch::{self, Batch},
    message::Work,
};

use super::*;
use crate::input::tests::{Bucket, block_on, work};

/// A batch of one index with these inputs, in the bucket; an input without contents does not exist.
fn batch(bucket: &Bucket, inputs: &[(&str, Option<&str>)], common: &[&str]) -> BatchSettings {
    let entry = |job: &str, generation: i64| {
        let object = format!("bu1/input/s/{job}");
        let identity = Identity { object, generation, ..work().identity };
        let common = common.iter().map(|name| (*name).to_owned()).collect();
        let work = Work { identity, job: job.into(), common, ..work() };
        Entry { work, message_id: "1".into(), published: None, received: Timestamp::UNIX_EPOCH }
    };
    let entries: Vec<Entry> = (1..).zip(inputs).map(|(generation, (job, _))| entry(job, generation)).collect();
    for ((_, contents), entry) in inputs.iter().zip(&entries) {
        if let Some(contents) = contents {
            bucket.put(&entry.work.identity.object, entry.work.identity.generation, contents.as_bytes());
        }
    }
    let (bytes, hash) = Manifest::new(entries).encode().unwrap();
    let batch = Batch {
        schema: batch::SCHEMA,
        bucket: work().identity.bucket,
        business: "bu1".into(),
        session: "s".into(),
        hash,
        inputs: u32::try_from(inputs.len()).unwrap(),
        indexes: 1,
    };
    bucket.put(&batch.manifest(), 1, &bytes);
    let mut config = contract::testing::config(&["bu1"]);
    config.businesses.get_mut("bu1").unwrap().engine.timeout_secs = 1;
    BatchSettings {
        config,
        batch,
        index: 0,
        pod: "pod-a".into(),
        failures: 0,
        work_dir: std::env::temp_dir(),
        threads: 2,
        stop: None,
    }
}

fn written_report(bucket: &Bucket, settings: &BatchSettings) -> Report {
    serde_json::from_str(&bucket.text(&settings.batch.report(0, &settings.pod)).unwrap()).unwrap()
}

fn program(script: &str) -> Program {
    Program {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        permanent_exit_codes: vec![3],
        timeout: None,
        max_output_bytes: Some(1000),
        content_type: None,
    }
}

#[test]
fn an_input_that_can_never_work_fails_alone() {
    let bucket = Bucket::default();
    let settings = batch(&bucket, &[("a", Some("x")), ("bad", Some("{")), ("gone", None), ("b", Some("y"))], &[]);
    assert_eq!(block_on(run(&settings, None, &bucket)), Ok(input::Done::Completed));
    assert!(bucket.text("bu1/output/s/a/1-0").is_some() && bucket.text("bu1/output/s/b/4-0").is_some());
    let report = written_report(&bucket, &settings);
    let mut done: Vec<u32> = report.done.iter().map(|done| done.input).collect();
    done.sort_unstable();
    let mut failed: Vec<_> = report.failed.iter().map(|one| (one.input, one.permanent, one.code.as_str())).collect();
    failed.sort_unstable();
    assert_eq!((done, failed), (vec![0, 3], vec![(1, true, "malformed-input"), (2, true, "input-missing")]));
    assert!(report.failed.iter().all(|failed| failed.log_tail.as_ref().unwrap().contains(&failed.message)));
}

#[test]
fn a_transient_failure_retries_the_index_and_keeps_the_results() {
    let mut bucket = Bucket::default();
    bucket.denied_part = Some("input/s/b");
    let mut settings = batch(&bucket, &[("a", Some("x")), ("b", Some("y")), ("c", Some("z"))], &[]);
    let failure = block_on(run(&settings, None, &bucket)).unwrap_err();
    assert_eq!((failure.code, failure.permanent), ("inputs-failed", false));
    assert!(failure.message.contains("1 of 3") && failure.message.contains("access denied"), "{}", failure.message);
    assert_eq!(written_report(&bucket, &settings).failed.len(), 1);
    bucket.denied_part = None;
    bucket.put("bu1/output/s/a/1-0", 0, b"first");
    settings = BatchSettings { pod: "pod-b".into(), failures: 1, ..settings };
    assert_eq!(block_on(run(&settings, None, &bucket)), Ok(input::Done::Completed));
    assert_eq!(written_report(&bucket, &settings).done.len(), 3);
    assert_eq!(bucket.text("bu1/output/s/a/1-0").unwrap(), "first");
    assert!(bucket.text("bu1/output/s/b/2-0").is_some());
}

#[test]
fn every_other_pod_starts_from_the_other_end() {
    let bucket = Bucket::default();
    let inputs = [("a", Some("1")), ("b", Some("2")), ("c", Some("3"))];
    let settings = BatchSettings { failures: 1, threads: 1, ..batch(&bucket, &inputs, &[]) };
    block_on(run(&settings, None, &bucket)).unwrap();
    let inputs: Vec<String> = bucket.reads.borrow().iter().filter(|name| name.contains("/input/")).cloned().collect();
    assert_eq!(inputs, ["bu1/input/s/c", "bu1/input/s/b", "bu1/input/s/a"]);
}

#[test]
fn programs_share_the_common_data_and_each_has_its_log() {
    let bucket = Bucket::default();
    bucket.put("bu1/common/s/rates", 1, b"7");
    let inputs = [("a", Some("1")), ("b", Some("2")), ("c", Some("3"))];
    let settings = batch(&bucket, &inputs, &["rates"]);
    let script = "read x; echo said $x >&2; [ $x = 2 ] && exit 3; cat $DESKGRID_COMMON/rates; echo $x";
    block_on(run(&settings, Some(&program(script)), &bucket)).unwrap();
    let report = written_report(&bucket, &settings);
    assert_eq!(report.done.len(), 2, "{report:?}");
    let failed = &report.failed[0];
    assert_eq!((failed.input, failed.permanent, failed.code.as_str()), (1, true, "program-failed"));
    assert_eq!(failed.log_tail.as_deref(), Some("said 2\nprogram-failed: sh exited with code 3\n"));
    assert_eq!(bucket.text("bu1/output/s/c/3-0").as_deref(), Some("73\n"));
    assert_eq!(bucket.reads.borrow().iter().filter(|name| name.ends_with("rates")).count(), 1);
}

#[test]
fn an_input_that_takes_too_long_does_not_stop_the_others() {
    let bucket = Bucket::default();
    let settings = batch(&bucket, &[("a", Some("100")), ("b", Some("0"))], &[]);
    let failure = block_on(run(&settings, Some(&program("read x; sleep $x; echo done")), &bucket)).unwrap_err();
    assert_eq!(failure.code, "inputs-failed");
    let report = written_report(&bucket, &settings);
    assert_eq!((report.done.len(), report.failed[0].code.as_str()), (1, "timeout"));
}

#[test]
fn a_manifest_with_another_hash_is_not_computed() {
    let bucket = Bucket::default();
    let settings = batch(&bucket, &[("a", Some("x"))], &[]);
    bucket.put(&settings.batch.manifest(), 2, b"{\"schema\":1,\"entries\":[]}");
    assert_eq!(block_on(run(&settings, None, &bucket)).unwrap_err().code, "malformed-manifest");
    assert!(bucket.text("bu1/output/s/a/1-0").is_none());
}

#[test]
fn the_settings_of_the_business_apply_to_a_program_in_a_batch() {
    let engine = |timeout_secs| {
        let mut engine = contract::testing::business("bu1").engine;
        engine.program.timeout_secs = timeout_secs;
        engine
    };
    let limit = Duration::from_secs(100);
    for (own, configured, expected) in [
        (None, Some(10), 10),
        (None, None, 100),
        (None, Some(1000), 100),
        (Some(5), Some(10), 5),
        (Some(500), None, 100),
    ] {
        let program = Program { timeout: own.map(Duration::from_secs), ..program("true") };
        let limited = with_limits(&program, Some(&engine(configured)), limit);
        assert_eq!(limited.timeout, Some(Duration::from_secs(expected)), "{own:?} {configured:?}");
    }
}

#[test]
fn the_logs_in_a_report_are_few_bytes_however_many_fail() {
    let failed = |input| Failed {
        input,
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        permanent: false,
        code: "x".into(),
        message: "x".into(),
        log_tail: Some("é".repeat(LOG_TAIL_BYTES / 2)),
    };
    let mut all: Vec<Failed> = (0..1000).map(failed).collect();
    shorten_logs(&mut all);
    let bytes: usize = all.iter().map(|failed| failed.log_tail.as_ref().unwrap().len()).sum();
    assert!(bytes <= 512 * 1024 + 1000 * 2 * 1024, "{bytes} bytes of logs in one report");
    assert_eq!(all[0].log_tail.as_ref().unwrap().len(), LOG_TAIL_BYTES, "the first is whole");
    assert!(all.iter().all(|failed| !failed.log_tail.as_ref().unwrap().is_empty()));
}
