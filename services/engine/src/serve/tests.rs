//! An engine of a pool with orchestrators, a name server and a bucket of the test's own.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    sync::Mutex,
};

use contract::{
    config::{Pool, Results},
    message::Work,
    outcome::State,
    pack::{self, Format, ItemResult, Pack, Span},
};
use futures::stream::BoxStream;
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SRV},
};
use pool::proto::{
    self, FromEngine, Items, Tasks, ToEngine,
    pool_server::{self, PoolServer},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{
        Notify, Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender},
    },
    task::JoinSet,
};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};

use super::*;
use crate::{
    config::Orchestrators,
    host,
    input::tests::{Bucket, work},
    program::Program,
};

const DEADLINE: Duration = Duration::from_secs(20);
const NAME: &str = "pool.bu1.svc";

/// A stream as an orchestrator has it.
struct Connection {
    token: String,
    from: Streaming<FromEngine>,
    to: UnboundedSender<Result<ToEngine, Status>>,
}

impl Connection {
    /// The next frame that is not about the window.
    async fn next(&mut self) -> from_engine::Frame {
        loop {
            let frame = timeout(DEADLINE, self.from.message()).await.expect("no frame came").unwrap();
            match frame.expect("the stream ended").frame.unwrap() {
                from_engine::Frame::Window(_) => {}
                frame => return frame,
            }
        }
    }

    async fn hello(&mut self) -> Hello {
        match self.next().await {
            from_engine::Frame::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    /// The records of so many items that end.
    async fn records(&mut self, range: &str, count: usize) -> Vec<pack::Item> {
        let mut records = Vec::new();
        while records.len() < count {
            match self.next().await {
                from_engine::Frame::Ended(ended) => {
                    assert_eq!(ended.range, range);
                    assert!(ended.cpu_seconds >= 0.0);
                    records.extend(ended.record.iter().map(|record| serde_json::from_slice(record).unwrap()));
                }
                other => panic!("{other:?}"),
            }
        }
        records.sort_by_key(|item: &pack::Item| item.index);
        records
    }

    fn send(&self, frame: to_engine::Frame) {
        self.to.send(Ok(ToEngine { frame: Some(frame) })).unwrap();
    }

    fn tasks(&self, range: &str, work: &Work, index: &[u32], input: Option<&str>) {
        self.send(to_engine::Frame::Tasks(Tasks {
            range: range.to_owned(),
            work: serde_json::to_vec(work).unwrap().into(),
            index: index.to_vec(),
            input: input.map(|text| text.to_owned().into()),
            content_type: String::new(),
            alone: false,
        }));
    }

    fn settled(&self, range: &str) {
        self.send(to_engine::Frame::Settled(range.to_owned()));
    }

    /// Waits until the engine has read what was sent.
    async fn until_read(&mut self) {
        self.send(to_engine::Frame::Recall(items("none", &[])));
        assert_eq!(self.next().await, from_engine::Frame::Returned(items("none", &[])));
    }
}

/// What accepts the streams of one orchestrator.
struct Service(UnboundedSender<Connection>);

#[tonic::async_trait]
impl pool_server::Pool for Service {
    type WorkStream = BoxStream<'static, Result<ToEngine, Status>>;

    async fn work(&self, request: Request<Streaming<FromEngine>>) -> Result<Response<Self::WorkStream>, Status> {
        let token = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let (to, frames) = unbounded_channel();
        self.0.send(Connection { token, from: request.into_inner(), to }).unwrap();
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(frames))))
    }
}

/// An orchestrator.
struct Orchestrator(UnboundedReceiver<Connection>);

impl Orchestrator {
    async fn accept(&mut self) -> (Connection, Hello) {
        let mut connection = timeout(DEADLINE, self.0.recv()).await.expect("no stream came").unwrap();
        let hello = connection.hello().await;
        (connection, hello)
    }
}

/// What an engine of a pool needs.
struct Fixture {
    bucket: Bucket,
    settings: PoolSettings,
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
    /// The program in the container beside the engine.
    program: Option<Program>,
    /// The ports that the name server names.
    ports: Arc<Mutex<Vec<u16>>>,
    servers: RefCell<JoinSet<()>>,
    sigterm: Notify,
    ended: Semaphore,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        // Another test may have installed it.
        let _ = cloud::clients::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let certificate = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let (authorities, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
        std::fs::write(&authorities, certificate.cert.pem()).unwrap();
        std::fs::write(&token, "token-1\n").unwrap();
        let (ports, mut servers) = (Arc::<Mutex<Vec<u16>>>::default(), JoinSet::new());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let name_server = Some(socket.local_addr().unwrap());
        servers.spawn(answer_names(socket, ports.clone()));
        let mut config = contract::testing::config(&["bu1"]);
        let business = config.businesses.get_mut("bu1").unwrap();
        business.pool = Some(Pool { min: 0, max: 4, slots: 2, idle_secs: 300, spot: false });
        business.engine.retries = 1;
        let settings = PoolSettings {
            business: business.clone(),
            config,
            slots: 2,
            orchestrators: Orchestrators {
                service: format!("_pool._tcp.{NAME}"),
                name: NAME.into(),
                authorities,
                token,
                name_server,
            },
            slot: 3,
            pod: "pool-3-x".into(),
            uid: "uid-1".into(),
            node: "node-1".into(),
            work_dir: folder.path().to_owned(),
            threads: 2,
            stop: None,
        };
        Self {
            bucket: Bucket::default(),
            settings,
            certificate,
            program: None,
            ports,
            servers: RefCell::new(servers),
            sigterm: Notify::new(),
            ended: Semaphore::new(0),
            _folder: folder,
        }
    }

    /// Starts an orchestrator and has the name server name it.
    async fn orchestrator(&self) -> Orchestrator {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, connections) = unbounded_channel();
        let identity = Identity::from_pem(self.certificate.cert.pem(), self.certificate.signing_key.serialize_pem());
        let mut server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        let server = server.add_service(PoolServer::new(Service(sender)));
        let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
        self.servers.borrow_mut().spawn(async { serving.await.unwrap() });
        self.ports.lock().unwrap().push(port);
        Orchestrator(connections)
    }

    /// Runs the container beside the engine, which ends when a program writes the file `kill`, and is started again.
    async fn run_container(&self) {
        let Some(program) = &self.program else { return std::future::pending().await };
        loop {
            tokio::select! {
                ended = host::serve(program, &self.settings.work_dir) => ended.unwrap(),
                () = until(|| std::fs::remove_file(self.settings.work_dir.join("kill")).is_ok()) => {}
            }
        }
    }

    async fn until_ended(&self) {
        timeout(DEADLINE, self.ended.acquire()).await.expect("the engine did not end").unwrap().forget();
    }

    fn put(&self, input: &str) {
        self.bucket.put("bu1/input/s/j", 7, input.as_bytes());
    }
}

/// Waits for a state that nothing reports.
async fn until(is_reached: impl Fn() -> bool) {
    while !is_reached() {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Has the engine run this script for each item, in a container of its own.
fn with_program(fixture: &mut Fixture, script: &str) {
    // Longer than the path of a socket may be.
    fixture.settings.work_dir.push("w".repeat(120));
    std::fs::create_dir(&fixture.settings.work_dir).unwrap();
    fixture.program = Some(Program {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        permanent_exit_codes: vec![],
        timeout: None,
        max_output_bytes: None,
        content_type: None,
        resident: false,
    });
    fixture.settings.business.engine.program.permanent_exit_codes = vec![3];
}

async fn answer_names(socket: UdpSocket, ports: Arc<Mutex<Vec<u16>>>) {
    let mut buffer = [0; 512];
    loop {
        let (length, client): (usize, SocketAddr) = socket.recv_from(&mut buffer).await.unwrap();
        let request = Message::from_vec(&buffer[..length]).unwrap();
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.add_queries(request.queries.iter().cloned());
        let query = &request.queries[0];
        let mut add = |data| {
            response.add_answer(Record::from_rdata(query.name().clone(), 5, data));
        };
        match query.query_type() {
            RecordType::SRV => {
                let target = Name::from_ascii(format!("{NAME}.")).unwrap();
                let ports = ports.lock().unwrap();
                ports.iter().for_each(|port| add(RData::SRV(SRV::new(0, 1, *port, target.clone()))));
            }
            RecordType::A => add(RData::A(Ipv4Addr::LOCALHOST.into())),
            _ => {}
        }
        if response.answers.is_empty() {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        socket.send_to(&response.to_vec().unwrap(), client).await.unwrap();
    }
}

/// Runs an engine beside a test.
fn check(prepare: impl FnOnce(&mut Fixture), test: impl AsyncFnOnce(&Fixture)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut fixture = Fixture::new().await;
        prepare(&mut fixture);
        let engine = async {
            let container = match fixture.program {
                Some(_) => Some(Container::start(&fixture.settings.work_dir).await.unwrap()),
                None => None,
            };
            serve(&fixture.settings, &fixture.bucket, container, fixture.sigterm.notified()).await.unwrap();
            fixture.ended.add_permits(1);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = engine => {}
            () = fixture.run_container() => {}
            () = test(&fixture) => {}
        }
    });
    runtime.shutdown_background();
}

fn range_of_lines(first: u32, items: u32, items_per_range: u32) -> Work {
    let pack = Some(Pack { format: Format::Lines, items, items_per_range, rows_per_item: 1 });
    Work { pack, ..work() }.of_range(first)
}

/// The result of an item in its record.
fn text(item: &pack::Item) -> String {
    assert_eq!((item.state, &item.reason), (State::Succeeded, &None));
    String::from_utf8(item.result.as_ref().unwrap().bytes().unwrap()).unwrap()
}

fn items(range: &str, index: &[u32]) -> Items {
    Items { range: range.to_owned(), index: index.to_vec() }
}

#[test]
fn a_payload_in_a_message_is_computed_without_storage() {
    check(
        |_| {},
        async |fixture| {
            let mut orchestrator = fixture.orchestrator().await;
            let (mut stream, hello) = orchestrator.accept().await;
            assert_eq!(stream.token, "Bearer token-1");
            let expected = Hello {
                pod: "pool-3-x".into(),
                uid: "uid-1".into(),
                slot: 3,
                slots: 2,
                node: "node-1".into(),
                version: VERSION.into(),
                held: vec![],
            };
            assert_eq!(hello, expected);
            stream.tasks("r", &work(), &[0], Some("engine payload 1"));
            let records = stream.records("r", 1).await;
            // As a Kubernetes Job computes it.
            assert_eq!(
                text(&records[0]).trim_end(),
                r#"{"kernel":"echo","payload":"engine payload 1","bytes":16,"sha256":"b1d1d58fa06dc5785b8539171955578364883372edc67428ab7878cd3d094819"}"#
            );
            assert!(records[0].seconds.is_some_and(|seconds| seconds > 0.0));
            assert_eq!(fixture.bucket.reads.borrow().len(), 0);
            assert_eq!(fixture.bucket.text(&work().output()), None);
            stream.settled("r");
            stream.send(to_engine::Frame::Withdraw(true));
            assert_eq!(stream.next().await, from_engine::Frame::Leaving(true));
            drop(stream);
            fixture.until_ended().await;
        },
    );
}

#[test]
fn the_items_of_a_range_end_each_by_itself_and_their_pack_is_read_once() {
    check(
        |_| {},
        async |fixture| {
            let (mut orchestrator, bucket) = (fixture.orchestrator().await, &fixture.bucket);
            fixture.put("one\n{\nthree\nfour\n");
            let mut stream = orchestrator.accept().await.0;
            stream.tasks("r0", &range_of_lines(0, 4, 3), &[0, 1, 2], None);
            let records = stream.records("r0", 3).await;
            assert!(text(&records[0]).contains(r#""payload":"one\n""#) && text(&records[2]).contains("three"));
            let reason = records[1].reason.clone().unwrap();
            assert_eq!((records[1].state, reason.code.as_str()), (State::Failed, "malformed-input"));
            assert!(records[1].log_tail.is_none());
            // Another item of the range, and another range.
            stream.tasks("r3", &range_of_lines(3, 4, 3), &[3], None);
            assert!(text(&stream.records("r3", 1).await[0]).contains("four"));
            assert_eq!(*bucket.reads.borrow(), ["bu1/input/s/j"]);
            // Of a large pack, a range reads its part.
            let span = Span { offset: 12, length: 5 };
            stream.tasks("p3", &Work { span: Some(span), ..range_of_lines(3, 4, 3) }, &[3], None);
            assert!(text(&stream.records("p3", 1).await[0]).contains("four"));
            assert_eq!(*bucket.parts.borrow(), [span]);
        },
    );
}

#[test]
fn a_missing_input_is_permanent_unless_the_result_exists() {
    check(
        |_| {},
        async |fixture| {
            let (mut orchestrator, bucket) = (fixture.orchestrator().await, &fixture.bucket);
            let mut stream = orchestrator.accept().await.0;
            stream.tasks("r", &work(), &[0], None);
            let reason = stream.records("r", 1).await.remove(0).reason.unwrap();
            assert_eq!(reason.code, "input-missing");
            assert_eq!(reason.message, "the input gs://p-bucket/bu1/input/s/j#7 does not exist");
            bucket.put("bu1/output/s/j/7-0", 5, b"theirs");
            stream.settled("r");
            stream.tasks("r", &work(), &[0], None);
            let ItemResult::Object { object, generation, length, .. } =
                stream.records("r", 1).await.remove(0).result.unwrap()
            else {
                panic!("the result is inside the record");
            };
            assert_eq!((object.as_str(), generation, length), ("bu1/output/s/j/7-0", 5, 6));
            // Work of another business is not computed.
            let other = contract::testing::work("bu2", "s", "j");
            stream.tasks("other", &other, &[0], None);
            assert_eq!(stream.records("other", 1).await.remove(0).reason.unwrap().code, "configuration");
        },
    );
}

#[test]
fn a_large_result_is_an_object_of_its_own_that_is_written_once() {
    check(
        |fixture| fixture.bucket.rival = RefCell::new([("bu1/output/s/j/7-0".to_owned(), b"rival".to_vec())].into()),
        async |fixture| {
            let (mut orchestrator, bucket) = (fixture.orchestrator().await, &fixture.bucket);
            let large = "x".repeat(20_000);
            fixture.put(&format!("{large}\nsmall\n"));
            let mut stream = orchestrator.accept().await.0;
            let range = range_of_lines(0, 2, 2);
            stream.tasks("r", &range, &[0, 1], None);
            let records = stream.records("r", 2).await;
            let object = "bu1/output/s/j/7-0-0/i0".to_owned();
            let written = bucket.text(&object).unwrap();
            assert!(written.contains(&large));
            let length = written.len() as u64;
            let content_type = "application/json".to_owned();
            let expected = ItemResult::Object { object, generation: 1, offset: 0, length, content_type };
            assert_eq!(records[0].result, Some(expected));
            assert!(text(&records[1]).contains("small"));
            // Another engine writes the same result first: that one counts.
            stream.tasks("single", &work(), &[0], Some(&large));
            let content_type = String::new();
            let object = "bu1/output/s/j/7-0".to_owned();
            let expected = ItemResult::Object { object, generation: 2, offset: 0, length: 5, content_type };
            assert_eq!(stream.records("single", 1).await[0].result, Some(expected));
        },
    );
}

#[test]
fn all_results_are_objects_when_the_business_says_so() {
    check(
        |fixture| fixture.settings.business.results = Results::Objects,
        async |fixture| {
            let mut orchestrator = fixture.orchestrator().await;
            let mut stream = orchestrator.accept().await.0;
            stream.tasks("r", &work(), &[0], Some("small"));
            assert!(matches!(stream.records("r", 1).await[0].result, Some(ItemResult::Object { generation: 1, .. })));
            let written = fixture.bucket.object("bu1/output/s/j/7-0").unwrap();
            assert_eq!(written.2.content_type, "application/json");
            assert_eq!((&*written.2.metadata["session"], &*written.2.metadata["engine-version"]), ("s", VERSION));
        },
    );
}

#[test]
fn sigterm_returns_what_waits_and_lets_the_rest_end() {
    let gate = Rc::new(Semaphore::new(0));
    check(
        |fixture| fixture.bucket.gate = Some(("input", gate.clone())),
        async |fixture| {
            let mut orchestrator = fixture.orchestrator().await;
            fixture.put("a\nb\nc\nd\n");
            let mut stream = orchestrator.accept().await.0;
            stream.tasks("r", &range_of_lines(0, 4, 4), &[0, 1, 2, 3], None);
            stream.send(to_engine::Frame::Recall(items("r", &[3])));
            assert_eq!(stream.next().await, from_engine::Frame::Returned(items("r", &[3])));
            fixture.sigterm.notify_one();
            assert_eq!(stream.next().await, from_engine::Frame::Leaving(true));
            assert_eq!(stream.next().await, from_engine::Frame::Returned(items("r", &[2])));
            stream.tasks("other", &work(), &[0], Some("late"));
            assert_eq!(stream.next().await, from_engine::Frame::Returned(items("other", &[0])));
            gate.add_permits(1);
            assert_eq!(stream.records("r", 2).await.len(), 2);
            stream.settled("r");
            drop(stream);
            fixture.until_ended().await;
        },
    );
}

#[test]
fn results_are_kept_over_a_lost_stream_until_they_are_settled() {
    check(
        |_| {},
        async |fixture| {
            let mut orchestrator = fixture.orchestrator().await;
            fixture.put("input");
            let mut stream = orchestrator.accept().await.0;
            stream.tasks("r", &work(), &[0], None);
            let records = stream.records("r", 1).await;
            std::fs::write(&fixture.settings.orchestrators.token, "token-2").unwrap();
            drop(stream);
            let (mut stream, hello) = orchestrator.accept().await;
            assert_eq!((stream.token.as_str(), hello.held), ("Bearer token-2", vec![items("r", &[0])]));
            stream.tasks("r", &work(), &[0], None);
            assert_eq!(stream.records("r", 1).await, records);
            stream.settled("r");
            stream.until_read().await;
            drop(stream);
            let (mut stream, hello) = orchestrator.accept().await;
            assert_eq!(hello.held, vec![]);
            assert_eq!(fixture.bucket.reads.borrow().len(), 1);
            stream.tasks("r", &work(), &[0], None);
            stream.records("r", 1).await;
            assert_eq!(fixture.bucket.reads.borrow().len(), 2);
        },
    );
}

#[test]
fn an_item_of_two_orchestrators_is_computed_once() {
    let gate = Rc::new(Semaphore::new(0));
    check(
        |fixture| fixture.bucket.gate = Some(("input", gate.clone())),
        async |fixture| {
            let (mut first, mut second) = (fixture.orchestrator().await, fixture.orchestrator().await);
            fixture.put("input");
            let (mut one, mut two) = (first.accept().await.0, second.accept().await.0);
            one.tasks("r", &work(), &[0], None);
            two.tasks("r", &work(), &[0], None);
            one.until_read().await;
            two.until_read().await;
            gate.add_permits(1);
            assert_eq!(one.records("r", 1).await, two.records("r", 1).await);
            assert_eq!(fixture.bucket.reads.borrow().len(), 1);
            one.tasks("s", &work(), &[0], Some("payload"));
            one.records("s", 1).await;
            drop(one);
            assert_eq!(two.next().await, from_engine::Frame::Orphaned(items("s", &[0])));
            // Only when both withdraw, the engine ends.
            let (one, hello) = first.accept().await;
            assert_eq!(hello.held.len(), 2);
            for range in ["r", "s"] {
                one.settled(range);
            }
            one.send(to_engine::Frame::Withdraw(true));
            two.send(to_engine::Frame::Withdraw(true));
            assert_eq!(two.next().await, from_engine::Frame::Leaving(true));
            drop((one, two));
            fixture.until_ended().await;
        },
    );
}

#[test]
fn a_program_in_its_own_container_computes_the_items_of_a_range() {
    let script = "read x; case $x in bad) echo why >&2; exit 3;; esac
                  echo $x $DESKGRID_INDEX of $DESKGRID_COUNT with $(cat $DESKGRID_COMMON/rates/eur)";
    check(
        |fixture| with_program(fixture, script),
        async |fixture| {
            let (mut orchestrator, bucket) = (fixture.orchestrator().await, &fixture.bucket);
            fixture.put("a\nbad\nc\nd\n");
            bucket.put("bu1/common/s/rates/eur", 1, b"1.1");
            let mut stream = orchestrator.accept().await.0;
            let work = |first| Work { common: vec!["rates/eur".into()], ..range_of_lines(first, 4, 3) };
            stream.tasks("r0", &work(0), &[0, 1, 2], None);
            let records = stream.records("r0", 3).await;
            assert_eq!([text(&records[0]), text(&records[2])], ["a 0 of 4 with 1.1\n", "c 2 of 4 with 1.1\n"]);
            let reason = records[1].reason.clone().unwrap();
            assert_eq!((&*reason.code, &*reason.message), ("program-failed", "sh exited with code 3"));
            assert_eq!(records[1].log_tail.as_deref(), Some("why\n"));
            stream.tasks("r3", &work(3), &[3], None);
            assert_eq!(text(&stream.records("r3", 1).await[0]), "d 3 of 4 with 1.1\n");
            let mut reads = bucket.reads.borrow().clone();
            reads.sort();
            assert_eq!(reads, ["bu1/common/s/rates/eur", "bu1/input/s/j"]);
        },
    );
}

#[test]
fn an_item_that_fails_is_tried_again() {
    let script = "read x; f=$DESKGRID_COMMON/../$x; test $x = once -a -e $f && echo ok && exit
                  touch $f; exit 1";
    check(
        |fixture| with_program(fixture, script),
        async |fixture| {
            let mut orchestrator = fixture.orchestrator().await;
            let mut stream = orchestrator.accept().await.0;
            stream.tasks("r", &work(), &[0], Some("once"));
            assert_eq!(text(&stream.records("r", 1).await[0]), "ok\n");
            stream.tasks("s", &work(), &[0], Some("never"));
            let reason = stream.records("s", 1).await.remove(0).reason.unwrap();
            assert_eq!(reason.code, "retries-exhausted");
            assert_eq!(reason.message, "it failed 2 times, at last with program-failed: sh exited with code 1");
        },
    );
}

#[test]
fn a_program_that_stays_computes_one_item_after_another() {
    let script = "while read -r header; do length=${header##*:}; x=$(head -c ${length%?}); n=$((n + 1))
                  printf '{\"length\":%d}\\n%s' $((${#x} + ${#n} + 1)) \"$n $x\"; done";
    check(
        |fixture| {
            with_program(fixture, script);
            fixture.settings.business.engine.program.resident = true;
        },
        async |fixture| {
            let mut orchestrator = fixture.orchestrator().await;
            let mut stream = orchestrator.accept().await.0;
            for (range, expected) in [("r", "1 item"), ("s", "2 item")] {
                stream.tasks(range, &work(), &[0], Some("item"));
                assert_eq!(text(&stream.records(range, 1).await[0]), expected);
            }
            // Other common data need another process; there is one for each connection.
            fixture.bucket.put("bu1/common/s/rates", 1, b"1.1");
            let other = Work { common: vec!["rates".into()], ..work() };
            stream.tasks("t", &other, &[0], Some("item"));
            assert_eq!(text(&stream.records("t", 1).await[0]), "1 item");
            stream.tasks("u", &work(), &[0], Some("item"));
            assert_eq!(text(&stream.records("u", 1).await[0]), "1 item");
        },
    );
}

#[test]
fn the_processes_of_a_cancelled_item_are_killed() {
    let script = "read x; case $x in long) sleep 600 & echo $! > $DESKGRID_COMMON/../new
                  mv $DESKGRID_COMMON/../new $DESKGRID_COMMON/../process; wait;; esac; echo $x";
    check(
        |fixture| {
            with_program(fixture, script);
            fixture.settings.slots = 1;
        },
        async |fixture| {
            let mut orchestrator = fixture.orchestrator().await;
            let mut stream = orchestrator.accept().await.0;
            stream.tasks("r", &work(), &[0], Some("long"));
            stream.tasks("s", &work(), &[0], Some("short"));
            let file = fixture.settings.work_dir.join("process");
            timeout(DEADLINE, until(|| file.exists())).await.expect("the program did not start");
            let process: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
            stream.send(to_engine::Frame::Cancel(items("r", &[0])));
            assert_eq!(text(&stream.records("s", 1).await[0]), "short\n");
            let is_gone = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), None).is_err();
            timeout(DEADLINE, until(is_gone)).await.expect("the program was not killed");
        },
    );
}

#[test]
fn an_item_that_ends_the_container_fails_and_the_others_do_not() {
    // The item beside it waits for the end of the container, at the first time.
    let script = "read x; d=$DESKGRID_COMMON/..; case $x in
                  bad) while test ! -e $d/beside; do :; done; touch $d/kill; sleep 600;;
                  beside) test -e $d/beside || { touch $d/beside; sleep 600; };; esac; echo $x";
    check(
        |fixture| with_program(fixture, script),
        async |fixture| {
            let mut orchestrator = fixture.orchestrator().await;
            fixture.put("bad\nbeside\nc\n");
            let mut stream = orchestrator.accept().await.0;
            stream.tasks("r", &range_of_lines(0, 3, 3), &[0, 1, 2], None);
            // What would wait for the items that are computed alone may be computed elsewhere.
            assert_eq!(stream.next().await, from_engine::Frame::Returned(items("r", &[2])));
            let records = stream.records("r", 2).await;
            let reason = records[0].reason.clone().unwrap();
            assert_eq!(reason.code, "pod-killed", "{}", reason.message);
            assert_eq!(text(&records[1]), "beside\n");
            stream.tasks("r", &range_of_lines(0, 3, 3), &[2], None);
            assert_eq!(text(&stream.records("r", 1).await[0]), "c\n");
        },
    );
}

#[tokio::test]
async fn records_of_a_range_that_wait_are_joined() {
    let (sender, frames) = unbounded_channel();
    let ended = |range: &str, record: &'static str| {
        let record = vec![record.into()];
        from_engine::Frame::Ended(proto::Ended { range: range.into(), record, cpu_seconds: 1.0, index: vec![0] })
    };
    for frame in [ended("a", "1"), ended("a", "2"), ended("b", "3"), from_engine::Frame::Window(1), ended("b", "4")] {
        sender.send(frame).unwrap();
    }
    drop(sender);
    let joined: Vec<FromEngine> = streams::joined(frames).collect().await;
    let sizes: Vec<usize> = joined
        .iter()
        .map(|frame| match frame.frame.as_ref().unwrap() {
            from_engine::Frame::Ended(ended) => ended.record.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(sizes, [2, 1, 0, 1]);
}
