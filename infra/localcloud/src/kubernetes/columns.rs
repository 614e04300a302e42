//! The columns of the tables that kubectl prints, as the real API server names them.

use super::kinds::Kind;

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// JSON type.
    pub kind: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: u8,
}

const fn column(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 0 }
}

const fn integer(name: &'static str) -> Column {
    Column { name, kind: "integer", priority: 0 }
}

const fn wide(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 1 }
}

const NAME: Column = column("Name");
const AGE: Column = column("Age");
const CONTAINERS: [Column; 3] = [wide("Containers"), wide("Images"), wide("Selector")];

static PODS: [Column; 9] = [
    NAME,
    column("Ready"),
    column("Status"),
    column("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];
static JOBS: [Column; 8] = [
    NAME,
    column("Status"),
    column("Completions"),
    column("Duration"),
    AGE,
    CONTAINERS[0],
    CONTAINERS[1],
    CONTAINERS[2],
];
static DEPLOYMENTS: [Column; 8] = [
    NAME,
    column("Ready"),
    integer("Up-to-date"),
    integer("Available"),
    AGE,
    CONTAINERS[0],
    CONTAINERS[1],
    CONTAINERS[2],
];
static REPLICA_SETS: [Column; 8] =
    [NAME, integer("Desired"), integer("Current"), integer("Ready"), AGE, CONTAINERS[0], CONTAINERS[1], CONTAINERS[2]];
static EVENTS: [Column; 10] = [
    column("Last Seen"),
    column("Type"),
    column("Reason"),
    column("Object"),
    wide("Subobject"),
    wide("Source"),
    column("Message"),
    wide("First Seen"),
    wide("Count"),
    wide("Name"),
];
static NAMESPACES: [Column; 3] = [NAME, column("Status"), AGE];
static SERVICES: [Column; 7] =
    [NAME, column("Type"), column("Cluster-IP"), column("External-IP"), column("Port(s)"), AGE, wide("Selector")];
static DATA: [Column; 3] = [NAME, integer("Data"), AGE];
static SECRETS: [Column; 4] = [NAME, column("Type"), integer("Data"), AGE];
static ACCOUNTS: [Column; 3] = [NAME, integer("Secrets"), AGE];
static NODES: [Column; 10] = [
    NAME,
    column("Status"),
    column("Roles"),
    AGE,
    column("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];
static QUOTAS: [Column; 4] = [NAME, column("Request"), column("Limit"), AGE];
static ROLES: [Column; 2] = [NAME, column("Created At")];
static BINDINGS: [Column; 6] = [NAME, column("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")];
static POLICIES: [Column; 3] = [NAME, column("Pod-Selector"), AGE];
static PRIORITIES: [Column; 5] = [NAME, integer("Value"), column("Global-Default"), AGE, column("PreemptionPolicy")];
static BUDGETS: [Column; 5] =
    [NAME, column("Min Available"), column("Max Unavailable"), integer("Allowed Disruptions"), AGE];
static OTHER: [Column; 2] = [NAME, AGE];

/// The columns of a kind.
pub fn columns(kind: &Kind) -> &'static [Column] {
    match kind.plural {
        "pods" => &PODS,
        "jobs" => &JOBS,
        "deployments" => &DEPLOYMENTS,
        "replicasets" => &REPLICA_SETS,
        "events" => &EVENTS,
        "namespaces" => &NAMESPACES,
        "services" => &SERVICES,
        "configmaps" => &DATA,
        "secrets" => &SECRETS,
        "serviceaccounts" => &ACCOUNTS,
        "nodes" => &NODES,
        "resourcequotas" => &QUOTAS,
        "roles" | "clusterroles" => &ROLES,
        "rolebindings" | "clusterrolebindings" => &BINDINGS,
        "networkpolicies" => &POLICIES,
        "priorityclasses" => &PRIORITIES,
        "poddisruptionbudgets" => &BUDGETS,
        _ => &OTHER,
    }
}
