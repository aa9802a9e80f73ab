//! Names that announce a secret, and values that are not secrets, as data.

/// How much a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// A password: nearly any value is one.
    Strong,
    /// A token or key: a number of a few digits is not one.
    Token,
    /// `auth` and the like: often the name of a method.
    Auth,
    /// A private key, or the name of one.
    LongKey,
}

/// Parts of names that announce a secret wherever they stand in a part.
pub(super) const SECRET_ANYWHERE: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "secret",
    "credential",
    "apikey",
    "authkey",
    "accesskey",
];

/// Last parts of names that announce a secret.
pub(super) const SECRET_LAST: [(&str, Weight); 17] = [
    ("pass", Weight::Strong),
    ("passw", Weight::Strong),
    ("pw", Weight::Strong),
    ("pwd", Weight::Strong),
    ("pat", Weight::Token),
    ("storepass", Weight::Strong),
    ("keypass", Weight::Strong),
    ("passin", Weight::Token),
    ("passout", Weight::Token),
    ("token", Weight::Token),
    ("bearer", Weight::Token),
    ("cookie", Weight::Token),
    ("jwt", Weight::Token),
    ("auth", Weight::Auth),
    ("authorization", Weight::Auth),
    ("userpwd", Weight::Strong),
    ("dsn", Weight::Auth),
];

/// What comes before `key` in a name that announces a secret.
pub(super) const SECRET_KEYS: [&str; 19] = [
    "api",
    "access",
    "account",
    "encryption",
    "auth",
    "master",
    "signing",
    "shared",
    "subscription",
    "storage",
    "app",
    "application",
    "service",
    "license",
    "deploy",
    "functions",
    "host",
    "hmac",
    "webhook",
];

/// A name with one of these as its last part is about the secret and does not give it.
pub(super) const HARMLESS_LAST: [&str; 78] = [
    "algorithm",
    "arn",
    "attempts",
    "backend",
    "check",
    "class",
    "cmd",
    "column",
    "command",
    "config",
    "count",
    "dir",
    "directory",
    "enabled",
    "encoding",
    "endpoint",
    "engine",
    "env",
    "expiration",
    "expires",
    "expiry",
    "fd",
    "field",
    "file",
    "filename",
    "files",
    "fmt",
    "folder",
    "format",
    "header",
    "helper",
    "hint",
    "host",
    "id",
    "ids",
    "interval",
    "iterations",
    "jar",
    "key_id",
    "keyid",
    "label",
    "len",
    "length",
    "limit",
    "list",
    "location",
    "manager",
    "max",
    "method",
    "min",
    "mode",
    "mount",
    "name",
    "names",
    "namespace",
    "only",
    "path",
    "paths",
    "policy",
    "port",
    "prefix",
    "prompt",
    "provider",
    "ref",
    "required",
    "retries",
    "rotation",
    "rounds",
    "scheme",
    "server",
    "size",
    "source",
    "stdin",
    "store",
    "timeout",
    "ttl",
    "type",
    "url",
];

/// More last parts of that kind.
pub(super) const HARMLESS_LAST_TOO: [&str; 8] =
    ["uri", "user", "username", "version", "versions", "scope", "plugin", "dropout"];

/// A name that begins so asks whether, or how many; or names an object that holds a secret.
pub(super) const HARMLESS_FIRST: [&str; 25] = [
    "no", "without", "skip", "disable", "enable", "prompt", "ask", "require", "requires", "allow",
    "use", "show", "generate", "gen", "has", "is", "check", "verify", "validate", "min", "max",
    "num", "n", "existing", "list",
];

/// Tokens of language models: numbers and marks.
pub(super) const MODEL_TOKENS: [&str; 36] = [
    "pad",
    "eos",
    "bos",
    "unk",
    "sep",
    "cls",
    "mask",
    "stop",
    "special",
    "image",
    "video",
    "audio",
    "start",
    "end",
    "begin",
    "prefix",
    "suffix",
    "placeholder",
    "initializer",
    "trigger",
    "class",
    "instance",
    "concept",
    "separator",
    "system",
    "user",
    "assistant",
    "per",
    "prompt",
    "first",
    "last",
    "decoder",
    "new",
    "think",
    "blank",
    "control",
];

/// Names of options and variables that look like secrets but are not, whole.
pub(super) const HARMLESS_NAMES: [&str; 9] = [
    "ssh_auth_sock",
    "set-secrets",
    "update-secrets",
    "remove-secrets",
    "secrets",
    "image-pull-secret",
    "image-pull-secrets",
    "imagepullsecrets",
    "secretstore",
];

/// Values that are not a secret, whatever the name.
pub(super) const HARMLESS_VALUES: [&str; 22] = [
    "0",
    "1",
    "true",
    "false",
    "none",
    "null",
    "nil",
    "undefined",
    "on",
    "off",
    "yes",
    "no",
    "auto",
    "required",
    "optional",
    "enabled",
    "disabled",
    "always",
    "never",
    "prompt",
    "stdin",
    "keyring",
];

/// Values that are neither a token nor a key, but could be somebody's password.
pub(super) const HARMLESS_WORDS: [&str; 36] = [
    "default",
    "any",
    "all",
    "basic",
    "digest",
    "ntlm",
    "negotiate",
    "kerberos",
    "krb5",
    "gssapi",
    "ldap",
    "pam",
    "plain",
    "login",
    "oauth",
    "oauth2",
    "oidc",
    "bearer",
    "jwt",
    "md5",
    "sha256",
    "scram-sha-256",
    "munge",
    "trust",
    "peer",
    "cert",
    "certificate",
    "token",
    "password",
    "passwd",
    "apikey",
    "env",
    "file",
    "anonymous",
    "iam",
    "latest",
];

/// How a value begins that says where the secret is.
pub(super) const REFERENCES: [&str; 22] = [
    "env:",
    "file:",
    "fd:",
    "file://",
    "fileb://",
    "vault:",
    "ssm:",
    "arn:",
    "projects/",
    "op://",
    "keyring:",
    "secretsmanager:",
    "{{resolve:",
    "ref+",
    "id=",
    "type=",
    "src=",
    "source=",
    "env=",
    "name=",
    "stdin:",
    "secretref:",
];

/// Ends of file names.
pub(super) const EXTENSIONS: [&str; 34] = [
    "asc",
    "age",
    "bin",
    "cer",
    "cfg",
    "cnf",
    "conf",
    "cookie",
    "cookies",
    "crt",
    "csv",
    "dat",
    "db",
    "der",
    "env",
    "gpg",
    "ini",
    "jks",
    "json",
    "key",
    "keytab",
    "log",
    "p12",
    "pem",
    "pfx",
    "properties",
    "pub",
    "py",
    "sh",
    "toml",
    "tsv",
    "txt",
    "xml",
    "yaml",
];

/// Parameters of URLs that are secrets there, besides the names above.
pub(super) const URL_SECRETS: [&str; 6] =
    ["sig", "signature", "x-amz-signature", "x-goog-signature", "x-amz-credential", "hmac"];

/// Parameters of URLs that are secrets there if they are long.
pub(super) const URL_KEYS: [&str; 4] = ["key", "code", "hapikey", "appid"];

/// Authentication schemes of HTTP.
pub(super) const SCHEMES: [&str; 7] =
    ["bearer", "basic", "token", "apikey", "digest", "splunk", "negotiate"];

/// Options whose value is read by people.
pub(super) const MESSAGES: [&str; 13] = [
    "-m",
    "-am",
    "--message",
    "--title",
    "--body",
    "--description",
    "--comment",
    "--notes",
    "--subject",
    "--msg",
    "--text",
    "--annotation",
    "--reason",
];

/// Programs that run their words, or one of them, as a script.
pub(super) const SCRIPT_TAKERS: [&str; 14] = [
    "ssh", "eval", "watch", "parallel", "su", "bsub", "at", "screen", "tmux", "sbatch", "pdsh",
    "clush", "dsh", "runuser",
];
