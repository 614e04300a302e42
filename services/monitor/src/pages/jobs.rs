//! The table of Jobs: filtered, sorted, in pages.

use std::cmp::Ordering;

use contract::names;
use serde::Serialize;
use sessions::jobs::{Job, State};
use web::{Problem, Query, Visitor};

use super::rows::{JobRow, Span};
use crate::{board::PAUSED, page::Shown, page_request::PageRequest, state::State as Monitor};

/// Rows of a page.
const ROWS: usize = 50;
/// Rows of a page for a program.
const MAX_ROWS: usize = 1000;

/// A way to sort the table, by its name in the query.
#[derive(Clone, Copy)]
struct Order {
    name: &'static str,
    compare: fn(&Job, &Job) -> Ordering,
}

const BY_TIME: Order = Order { name: "changed", compare: |a, b| a.changed.cmp(&b.changed) };

/// What a cell shows.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Cell {
    Link {
        href: String,
        text: String,
    },
    Text {
        text: String,
    },
    State {
        state: &'static str,
        items: String,
    },
    Time {
        time: String,
    },
    Span {
        span: Span,
    },
    /// The reason code, unless the state says the same, and its sentence.
    Reason {
        code: String,
        message: String,
    },
}

/// A column of the table.
struct Column {
    label: &'static str,
    /// Style of its cells.
    class: &'static str,
    /// How the table is sorted by it, if it can be.
    order: Option<Order>,
    /// Shown where Jobs of several sessions are listed only.
    across_sessions: bool,
    cell: fn(&JobRow) -> Cell,
}

/// The columns of the table, from left to right.
const COLUMNS: &[Column] = &[
    Column {
        label: "Job",
        class: "name",
        order: Some(Order { name: "job", compare: |a, b| a.job.cmp(&b.job) }),
        across_sessions: false,
        cell: |row| Cell::Link { href: row.href.clone(), text: row.job.clone() },
    },
    Column {
        label: "Session",
        class: "optional wrap",
        order: Some(Order { name: "session", compare: |a, b| (&a.session, &a.job).cmp(&(&b.session, &b.job)) }),
        across_sessions: true,
        cell: |row| Cell::Link { href: row.session_href.clone(), text: row.session.clone() },
    },
    Column {
        label: "Business",
        class: "optional",
        order: Some(Order {
            name: "business",
            compare: |a, b| (&a.business, &a.session, &a.job).cmp(&(&b.business, &b.session, &b.job)),
        }),
        across_sessions: true,
        cell: |row| Cell::Text { text: row.business.clone() },
    },
    Column {
        label: "State",
        class: "",
        order: Some(Order { name: "state", compare: |a, b| (a.state, b.changed).cmp(&(b.state, a.changed)) }),
        across_sessions: false,
        cell: |row| Cell::State { state: row.state, items: row.items.clone() },
    },
    Column {
        label: "Changed",
        class: "nowrap",
        order: Some(BY_TIME),
        across_sessions: false,
        cell: |row| Cell::Time { time: row.changed.clone() },
    },
    Column {
        label: "Why",
        class: "optional why",
        order: None,
        across_sessions: false,
        cell: |row| Cell::Reason {
            code: if ["completed", row.state].contains(&row.code.as_str()) { String::new() } else { row.code.clone() },
            message: match (row.code.as_str(), row.row_errors) {
                ("completed", 0) => String::new(),
                ("completed", 1) => "1 row error".to_owned(),
                ("completed", errors) => format!("{errors} row errors"),
                _ => row.message.clone(),
            },
        },
    },
    Column {
        label: "Waited",
        class: "number optional nowrap",
        order: None,
        across_sessions: false,
        cell: |row| Cell::Span { span: row.waited.clone() },
    },
    Column {
        label: "Ran",
        class: "number optional nowrap",
        order: None,
        across_sessions: false,
        cell: |row| Cell::Span { span: row.ran.clone() },
    },
    Column {
        label: "Attempt",
        class: "number optional",
        order: None,
        across_sessions: false,
        cell: |row| Cell::Text { text: row.attempt.to_string() },
    },
];

/// The filter, the order and the page of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) business: String,
    pub(crate) session: String,
    pub(crate) state: Option<&'static str>,
    pub(crate) text: String,
    pub(crate) sort: String,
    /// The order, when the request names one.
    pub(crate) descending: Option<bool>,
    pub(crate) page: usize,
    pub(crate) rows: usize,
}

/// A page of the Jobs that match a filter.
pub(crate) struct Selected {
    pub(crate) jobs: Vec<Job>,
    /// Jobs on all pages.
    pub(crate) total: usize,
    pub(crate) page: usize,
    pub(crate) pages: usize,
    /// Jobs in each state, without the filter by state.
    pub(crate) by_state: Vec<(&'static str, usize)>,
}

/// The states to filter by.
pub(crate) fn states() -> impl Iterator<Item = &'static str> {
    State::ALL.into_iter().map(State::as_str).chain([PAUSED])
}

impl Filter {
    /// The filter of a query.
    pub(crate) fn from_query(query: &Query) -> Self {
        let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
        let number = |name: &str| query.get(name).and_then(|value| value.parse::<usize>().ok());
        Self {
            business: text("business"),
            session: text("session"),
            state: query.get("state").and_then(|word| states().find(|state| *state == word)),
            text: text("q").trim().to_owned(),
            sort: text("sort"),
            descending: query.get("order").map(|order| order == "desc"),
            page: number("page").unwrap_or(1).max(1),
            rows: number("rows").unwrap_or(ROWS).clamp(1, MAX_ROWS),
        }
    }
}

impl Filter {
    /// The order that the table is sorted by.
    fn order(&self) -> Order {
        COLUMNS.iter().filter_map(|column| column.order).find(|order| self.sort == order.name).unwrap_or(BY_TIME)
    }

    /// By time the latest come first, by name the first, unless the request names the direction.
    fn is_descending(&self) -> bool {
        self.descending.unwrap_or(self.order().name == BY_TIME.name)
    }
}

/// The Jobs that match a filter, with the contents of their outcomes.
pub(crate) async fn select(state: &Monitor, visitor: &Visitor, filter: &Filter) -> Result<Selected, Problem> {
    let mut selected = choose(state, visitor, filter)?;
    state.fill(&mut selected.jobs).await;
    Ok(selected)
}

fn choose(state: &Monitor, visitor: &Visitor, filter: &Filter) -> Result<Selected, Problem> {
    let only = Some(filter.business.as_str()).filter(|business| !business.is_empty());
    let views = state.views(visitor, only)?;
    let text = names::composed(&filter.text).to_lowercase();
    let matches = |job: &Job| {
        let code = job.reason.as_ref().map(|reason| reason.code.as_str()).unwrap_or_default();
        (filter.session.is_empty() || job.session == filter.session)
            && (text.is_empty()
                || [job.job.as_str(), job.session.as_str(), code]
                    .iter()
                    .any(|of| names::composed(of).to_lowercase().contains(&text)))
    };
    let all = views.iter().flat_map(|view| view.jobs.iter().map(|job| (view.filter_state(job), job)));
    let matching: Vec<(&'static str, &Job)> = all.filter(|(_, job)| matches(job)).collect();
    let count = |state: &str| matching.iter().filter(|(other, _)| *other == state).count();
    let by_state = states().map(|state| (state, count(state))).filter(|(state, count)| *state != PAUSED || *count > 0);
    let by_state = by_state.collect();
    let is_shown = |state: &str| filter.state.is_none_or(|only| only == state);
    let mut found: Vec<&Job> = matching.iter().filter(|(state, _)| is_shown(state)).map(|(_, job)| *job).collect();
    let order = filter.order();
    if order.name == BY_TIME.name && views.len() == 1 {
        // The Jobs of one business are in this order already, latest first.
        found.reverse();
    } else {
        found.sort_by(|a, b| (order.compare)(a, b));
    }
    if filter.is_descending() {
        found.reverse();
    }
    let total = found.len();
    let pages = total.div_ceil(filter.rows).max(1);
    let page = filter.page.min(pages);
    let jobs: Vec<Job> = found.into_iter().skip((page - 1) * filter.rows).take(filter.rows).cloned().collect();
    Ok(Selected { jobs, total, page, pages, by_state })
}

/// A filter to choose.
#[derive(Serialize)]
pub(super) struct Choice {
    pub(super) label: String,
    pub(super) href: String,
    pub(super) count: usize,
    pub(super) is_current: bool,
}

#[derive(Serialize)]
struct Bar {
    businesses: Vec<String>,
    business: String,
    session: String,
    text: String,
    state: String,
    sort: String,
    order: String,
}

/// The head of a column; `href` sorts by it and is empty where that is not possible.
#[derive(Serialize)]
struct Head {
    label: &'static str,
    href: String,
    sort: &'static str,
    class: &'static str,
}

/// A Job, with what selects it.
#[derive(Serialize)]
struct Row {
    key: String,
    target: String,
    job: String,
    cells: Vec<(&'static str, Cell)>,
}

#[derive(Serialize)]
struct Table {
    heads: Vec<Head>,
    rows: Vec<Row>,
    states: Vec<Choice>,
    total: usize,
    first: usize,
    last: usize,
    page: usize,
    pages: usize,
    previous: String,
    next: String,
    is_listed: bool,
    has_filter: bool,
}

/// The page.
pub(super) async fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let filter = Filter::from_query(request.query);
    let bar = Bar {
        businesses: request.businesses(),
        business: filter.business.clone(),
        session: filter.session.clone(),
        text: filter.text.clone(),
        state: filter.state.unwrap_or_default().to_owned(),
        sort: filter.sort.clone(),
        order: request.query.get("order").unwrap_or_default().to_owned(),
    };
    let parts = vec![request.part("filter", "jobs_filter.html", &bar)?, table(request, &filter, "/jobs").await?];
    Ok(Shown { title: "Jobs".into(), crumbs: Vec::new(), parts })
}

/// The table, for a page at this path.
pub(super) async fn table(
    request: &PageRequest<'_>,
    filter: &Filter,
    path: &str,
) -> Result<(&'static str, String), Problem> {
    let selected = select(request.state, request.visitor, filter).await?;
    let link = |name: &str, value: &str| {
        let query = Query::parse(&request.query.with("page", ""));
        let query = query.with(name, value);
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    };
    let mut states = vec![Choice {
        label: "all".into(),
        href: link("state", ""),
        count: selected.by_state.iter().map(|(_, count)| count).sum(),
        is_current: filter.state.is_none(),
    }];
    states.extend(selected.by_state.iter().map(|(state, count)| Choice {
        label: (*state).to_owned(),
        href: link("state", state),
        count: *count,
        is_current: filter.state == Some(*state),
    }));
    let in_session = path == "/session";
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| !(in_session && column.across_sessions)).collect();
    let heads = columns.iter().map(|column| {
        let Some(by) = column.order.map(|order| order.name) else {
            return Head { label: column.label, href: String::new(), sort: "", class: column.class };
        };
        let (order, sort) = match (filter.order().name == by, filter.is_descending()) {
            (true, true) => ("asc", "descending"),
            (true, false) => ("desc", "ascending"),
            (false, _) => ("", ""),
        };
        let query = Query::parse(&Query::parse(&request.query.with("page", "")).with("sort", by));
        Head { label: column.label, href: format!("{path}?{}", query.with("order", order)), sort, class: column.class }
    });
    let board = request.state.board();
    let row = |job: &Job| {
        let row = board.get(&job.business).map_or_else(|| JobRow::from(job), |view| JobRow::of(view, job));
        let cells = columns.iter().map(|column| (column.class, (column.cell)(&row))).collect();
        Row { cells, key: row.key, target: row.target, job: row.job }
    };
    let first = (selected.page - 1) * filter.rows;
    let turn = |page: usize| format!("{path}?{}", request.query.with("page", &page.to_string()));
    let table = Table {
        heads: heads.collect(),
        states,
        total: selected.total,
        first: if selected.total == 0 { 0 } else { first + 1 },
        last: first + selected.jobs.len(),
        page: selected.page,
        pages: selected.pages,
        previous: if selected.page > 1 { turn(selected.page - 1) } else { String::new() },
        next: if selected.page < selected.pages { turn(selected.page + 1) } else { String::new() },
        is_listed: board.values().all(|view| view.is_listed),
        has_filter: !filter.text.is_empty() || filter.state.is_some() || !filter.session.is_empty(),
        rows: selected.jobs.iter().map(row).collect(),
    };
    request.part("jobs", "jobs_table.html", &table)
}
