//! Access tokens: a file, stored in a Secret, with the businesses that each token may see.
//!
//! Either one token per line, alone (it may see every business) or followed by the businesses that it may see:
//!
//! ```text
//! 4f0c...e1
//! 9ab2...77 bu1,bu2
//! ```
//!
//! or the same as JSON: `{"4f0c...e1": ["*"], "9ab2...77": ["bu1", "bu2"]}`. Empty lines and lines that begin with `#`
//! are ignored.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use aws_lc_rs::{constant_time, digest, hmac};

use super::visitor::Businesses;

/// A shorter token could be guessed.
const MIN_CHARACTERS: usize = 16;
/// How long the tokens that were read are used before the file is read again.
const FRESH: Duration = Duration::from_secs(5);

/// One token, without the token itself.
#[derive(Clone)]
pub struct Token {
    /// First characters of its hash, to tell tokens apart in logs.
    pub fingerprint: String,
    /// What it may see.
    pub businesses: Businesses,
    hash: [u8; 32],
    /// Signs cookies and proofs of this token's sessions.
    pub(crate) key: hmac::Key,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The tokens of a file.
#[derive(Clone, Debug)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    /// Reads the text of a token file.
    ///
    /// # Errors
    /// When there is no token, a token is too short or is listed twice, or the text has another form.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let pairs: Vec<(String, Businesses)> = if text.trim_start().starts_with('{') {
            // The error does not quote the text: it would show tokens.
            let tokens: BTreeMap<String, Vec<String>> = serde_json::from_str(text)
                .map_err(|error| anyhow::anyhow!("line {}: expected {{\"TOKEN\": [\"BUSINESS\"]}}", error.line()))?;
            tokens.into_iter().map(|(token, names)| (token, Businesses::from_names(names))).collect()
        } else {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines
                .map(|line| match line.split_once(char::is_whitespace) {
                    None => (line.to_owned(), Businesses::All),
                    Some((token, names)) => {
                        let names = names.split([',', ' ', '\t']).filter(|name| !name.is_empty());
                        (token.to_owned(), Businesses::from_names(names.map(str::to_owned)))
                    }
                })
                .collect()
        };
        if pairs.is_empty() {
            bail!("there is no token in it");
        }
        let mut tokens: Vec<Token> = Vec::new();
        for (number, (token, businesses)) in pairs.into_iter().enumerate() {
            if token.chars().count() < MIN_CHARACTERS {
                bail!("token {} has fewer than {MIN_CHARACTERS} characters and could be guessed", number + 1);
            }
            let hash = hash(&token);
            if tokens.iter().any(|other| other.hash == hash) {
                bail!("token {} is listed twice", number + 1);
            }
            let fingerprint = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
            let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
            tokens.push(Token { fingerprint, businesses, hash, key });
        }
        Ok(Self(tokens))
    }

    /// The token that was presented. A wrong token takes as long as a right one.
    pub fn find(&self, presented: &str) -> Option<&Token> {
        let hash = hash(presented);
        let mut found = None;
        for token in &self.0 {
            if constant_time::verify_slices_are_equal(&token.hash, &hash).is_ok() {
                found = Some(token);
            }
        }
        found
    }

    /// The token of this fingerprint.
    pub(crate) fn by_fingerprint(&self, fingerprint: &str) -> Option<&Token> {
        self.0.iter().find(|token| token.fingerprint == fingerprint)
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// A token file that is read again after a few seconds, so that a new Secret takes effect without a restart.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    read: Mutex<(Instant, Arc<Tokens>)>,
}

impl TokenFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When it cannot be read or is not a token file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let tokens = Arc::new(parsed(path, text)?);
        Ok(Self { path: path.to_owned(), read: Mutex::new((Instant::now(), tokens)) })
    }

    /// The tokens as they are now, at most a few seconds late.
    ///
    /// # Errors
    /// As [`TokenFile::open`]: without the file nobody has access.
    pub async fn tokens(&self) -> anyhow::Result<Arc<Tokens>> {
        {
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.0.elapsed() < FRESH {
                return Ok(read.1.clone());
            }
        }
        let tokens = Arc::new(parsed(&self.path, tokio::fs::read_to_string(&self.path).await)?);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), tokens.clone());
        Ok(tokens)
    }
}

fn parsed(path: &Path, text: std::io::Result<String>) -> anyhow::Result<Tokens> {
    let text = text.with_context(|| format!("read the access tokens {}", path.display()))?;
    Tokens::parse(&text).with_context(|| format!("read the access tokens {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef";
    const B: &str = "fedcba9876543210fedcba9876543210";

    #[test]
    fn lines_and_json_say_the_same() {
        let lines = Tokens::parse(&format!("# made at deploy\n{A}\n\n{B}  bu1,bu2\n")).unwrap();
        let json = Tokens::parse(&format!(r#"{{"{A}": ["*"], "{B}": ["bu1", "bu2"]}}"#)).unwrap();
        for tokens in [lines, json] {
            assert_eq!(tokens.find(A).unwrap().businesses, Businesses::All);
            let some = Businesses::from_names(["bu1".to_owned(), "bu2".to_owned()]);
            assert_eq!(tokens.find(B).unwrap().businesses, some);
            assert!(tokens.find("").is_none() && tokens.find(&A[1..]).is_none());
            assert!(!format!("{tokens:?}").contains(A), "a token is not shown");
        }
    }

    #[test]
    fn a_file_without_good_tokens_is_refused_and_no_token_is_shown() {
        for bad in ["", "# none\n", "short", &format!("{A}\n{A}\n"), "{\"secret-secret-secret-1\": 7}"] {
            let error = format!("{:#}", Tokens::parse(bad).unwrap_err());
            assert!(!error.contains(A) && !error.contains("secret-secret"), "{error}");
        }
    }
}
