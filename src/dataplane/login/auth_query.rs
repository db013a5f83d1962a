//! auth_query: asks a server for the secret of a user that pool_passwd does not have.
//!
//! One task on the admin runtime owns the connection and answers one question after the other, so that
//! a hundred logins of one user cost one query. Sessions wait for it, within their
//! `authentication_timeout`; their threads do not.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    auth::{
        auth_query::{SecretCache, secret_in},
        passwd::Secret,
    },
    cluster::{ClusterView, Node, NodeId},
    config::settings::AuthQuerySettings,
    control::{
        Shared,
        backend_client::{Address, Client, Login, QueryError},
    },
    observe::{Reporter, Severity},
};

/// For connecting to one server, and for one query.
const LIMIT: Duration = Duration::from_secs(3);
/// A connection that nobody needed for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// When no server could be asked, none is for so long: logins get their refusal at once.
const PAUSE: Duration = Duration::from_secs(1);
/// The same trouble is told no more often than this.
const REPEAT: Duration = Duration::from_secs(10);

/// The way to the task, and what it has found out.
pub struct AuthQuery {
    cache: Mutex<SecretCache>,
    questions: mpsc::UnboundedSender<Question>,
}

pub struct Question {
    user: String,
    answer: oneshot::Sender<Option<Secret>>,
}

impl AuthQuery {
    /// The receiver is for [`serve`].
    pub fn new() -> (AuthQuery, mpsc::UnboundedReceiver<Question>) {
        let (questions, receiver) = mpsc::unbounded_channel();
        let cache = Mutex::default();
        (AuthQuery { cache, questions }, receiver)
    }

    /// The secret of a user; `None`: there is none, or the servers cannot tell (the log says why).
    pub async fn look_up(&self, settings: &AuthQuerySettings, user: &str) -> Option<Secret> {
        if let Some(known) = self
            .cache()
            .get(user, Instant::now(), settings.cache_life_time)
        {
            return known;
        }
        let (answer, found) = oneshot::channel();
        let question = Question {
            user: user.to_owned(),
            answer,
        };
        self.questions.send(question).ok()?;
        found.await.ok().flatten()
    }

    /// A login of this user has failed: its password may have been changed.
    pub fn login_failed(&self, user: &str) {
        self.cache().login_failed(user, Instant::now());
    }

    /// Settings or servers have changed.
    pub fn clear(&self) {
        self.cache().clear();
    }

    fn cache(&self) -> MutexGuard<'_, SecretCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, and what it was made with.
struct Connection {
    client: Client,
    node: NodeId,
    settings: AuthQuerySettings,
}

/// Answers questions as long as somebody can ask.
pub async fn serve(
    shared: Arc<Shared>,
    plane: std::sync::Weak<crate::dataplane::Plane>,
    mut questions: mpsc::UnboundedReceiver<Question>,
) {
    let mut connection: Option<Connection> = None;
    let mut trouble = Trouble::default();
    loop {
        let question = match timeout(IDLE, questions.recv()).await {
            Ok(question) => question,
            Err(_) => {
                if let Some(idle) = connection.take() {
                    idle.client.close().await;
                }
                questions.recv().await
            }
        };
        let Some(question) = question else { return };
        // The client has gone meanwhile.
        if question.answer.is_closed() {
            continue;
        }
        let Some(plane) = plane.upgrade() else { return };
        let found = answer(
            &shared,
            &plane.auth_query,
            &mut connection,
            &mut trouble,
            &question.user,
        )
        .await;
        // Nobody waits any more: the next one finds it in the cache.
        let _ = question.answer.send(found);
    }
}

async fn answer(
    shared: &Shared,
    service: &AuthQuery,
    connection: &mut Option<Connection>,
    trouble: &mut Trouble,
    user: &str,
) -> Option<Secret> {
    let config = shared.config.load_full();
    let settings = config.settings.own.auth_query.as_ref()?;
    let cached = service
        .cache()
        .get(user, Instant::now(), settings.cache_life_time);
    if let Some(known) = cached {
        return known;
    }
    if trouble.is_fresh() {
        return None;
    }
    let rows = match rows_of(shared, settings, connection, user).await {
        Ok(rows) => rows,
        Err(NoRows::Refused(reason)) => {
            trouble.tell(&reason);
            return None;
        }
        Err(NoRows::Unreachable(reason)) => {
            trouble.begin();
            trouble.tell(&reason);
            return None;
        }
    };
    let secret = secret_in(&rows, user).unwrap_or_else(|reason| {
        trouble.tell(&reason);
        None
    });
    service.cache().insert(user, secret.clone(), Instant::now());
    secret
}

/// Why a question has no answer.
enum NoRows {
    /// A server says that it is an error. That may be because of this very name, which a stranger has
    /// chosen, so it says nothing about other users.
    Refused(String),
    /// Nobody could be asked.
    Unreachable(String),
}

async fn rows_of(
    shared: &Shared,
    settings: &AuthQuerySettings,
    connection: &mut Option<Connection>,
    user: &str,
) -> Result<Vec<Vec<Option<String>>>, NoRows> {
    let view = shared.view.load_full();
    let kept = connection.take().filter(|c| {
        c.settings == *settings && nodes_in_order(&view).next().map(|n| n.id) == Some(c.node)
    });
    if let Some(mut kept) = kept {
        match ask(&mut kept.client, settings, user).await {
            Ok(rows) => {
                *connection = Some(kept);
                return Ok(rows);
            }
            Err(QueryError::Server(error)) => {
                let reason = format!("node {}: {error}", kept.node);
                *connection = Some(kept);
                return Err(NoRows::Refused(reason));
            }
            // It has been closed meanwhile, perhaps by a restart: a new one will tell.
            Err(QueryError::Lost(_)) => {}
        }
    }
    let mut reasons = Vec::new();
    for node in nodes_in_order(&view) {
        match connect(shared, settings, node).await {
            Ok(mut client) => {
                let answer = ask(&mut client, settings, user).await;
                if let Err(QueryError::Lost(reason)) = answer {
                    reasons.push(format!("node {}: {reason}", node.id));
                    continue;
                }
                *connection = Some(Connection {
                    client,
                    node: node.id,
                    settings: settings.clone(),
                });
                // Another server would say the same.
                return answer.map_err(|e| NoRows::Refused(format!("node {}: {e}", node.id)));
            }
            Err(reason) => reasons.push(format!("node {}: {reason}", node.id)),
        }
    }
    if reasons.is_empty() {
        reasons.push("all backend nodes are down".to_owned());
    }
    Err(NoRows::Unreachable(reasons.join("; ")))
}

/// The primary (or main node) first, then the other nodes that are up.
fn nodes_in_order(view: &ClusterView) -> impl Iterator<Item = &Node> {
    let first = view.write_node();
    let is_first = move |node: &&Node| Some(node.id) == first;
    let valid = || view.nodes.iter().filter(|n| n.is_valid());
    valid()
        .filter(is_first)
        .chain(valid().filter(move |node| !is_first(node)))
}

async fn connect(
    shared: &Shared,
    settings: &AuthQuerySettings,
    node: &Node,
) -> Result<Client, String> {
    let address = Address {
        hostname: node.hostname.clone(),
        port: node.port,
        connect_timeout: Some(LIMIT),
        tls: shared.tls.load().backend(node.id),
    };
    let login = Login::new(
        &settings.user,
        &settings.password,
        &settings.dbname,
        &shared.passwd.load(),
    );
    Client::connect(&address, &login, Some(LIMIT))
        .await
        .map_err(|e| e.to_string())
}

async fn ask(
    client: &mut Client,
    settings: &AuthQuerySettings,
    user: &str,
) -> Result<Vec<Vec<Option<String>>>, QueryError> {
    client.query_with(&settings.query, &[user], LIMIT).await
}

/// What went wrong last, so that it is neither repeated nor told without end.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Trouble {
    fn is_fresh(&self) -> bool {
        self.since.is_some_and(|at| at.elapsed() < PAUSE)
    }

    fn begin(&mut self) {
        self.since = Some(Instant::now());
    }

    fn tell(&mut self, reason: &str) {
        if self.told.is_none_or(|at| at.elapsed() >= REPEAT) {
            self.told = Some(Instant::now());
            tell(reason);
        }
    }
}

fn tell(reason: &str) {
    Reporter::new("child").emit(
        Severity::Warning,
        "auth_query failed, users without an entry in pool_passwd may be refused",
        reason,
        "Check auth_user, auth_password, auth_dbname and auth_query in pgpool-rs.conf: auth_user must be \
         able to log in at the servers and to read pg_shadow, or to run the function that reads it.",
    );
}
