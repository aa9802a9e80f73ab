//! Programs whose options hold secrets without saying so, as data. The options are those of each
//! program's manual page.

/// What in an option's value is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// `USER:PASSWORD`: all of it, if there is a password.
    Colon,
    /// `USER,PASSWORD`.
    Comma,
    /// `USER/PASSWORD@PLACE`.
    Slash,
    /// `USER%PASSWORD`.
    Percent,
    /// `pass:PASSWORD` (openssl-passphrase-options(1)).
    Labelled,
    /// A cookie `NAME=VALUE`; without `=` it is a file.
    Cookie,
}

/// Options of a program that hold secrets without saying so.
pub(super) struct SecretOptions {
    /// Base names, or base name and subcommand.
    pub(super) names: &'static [&'static str],
    /// Single letters that take a value, besides those of `letters`.
    pub(super) with_value: &'static str,
    /// Single letters whose value is secret.
    pub(super) letters: &'static [(char, Part)],
    /// Whether a letter has its value in the same word or none at all.
    pub(super) attached_only: bool,
    /// Whole options, without their dashes.
    pub(super) words: &'static [(&'static str, Part)],
    /// What in a word that is not an option is secret.
    pub(super) operand: Option<Part>,
    /// Options that look like secrets but are not, without their dashes.
    pub(super) harmless: &'static [&'static str],
}

const NOTHING: SecretOptions = SecretOptions {
    names: &[],
    with_value: "",
    letters: &[],
    attached_only: false,
    words: &[],
    operand: None,
    harmless: &[],
};

/// See [`SecretOptions`].
pub(super) const PROGRAMS: &[SecretOptions] = &[
    SecretOptions {
        names: &["curl"],
        with_value: "AcCdDeEFhHKmoPQrtTwxXyYz",
        letters: &[('u', Part::Colon), ('U', Part::Colon), ('b', Part::Cookie)],
        words: &[
            ("user", Part::Colon),
            ("proxy-user", Part::Colon),
            ("oauth2-bearer", Part::Whole),
            ("cookie", Part::Cookie),
            ("aws-sigv4-user", Part::Colon),
        ],
        ..NOTHING
    },
    SecretOptions {
        names: &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlcheck",
            "mysqlbinlog",
            "mysqlpump",
            "mysqlslap",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
            "mysqlsh",
        ],
        with_value: "uhPDeS",
        letters: &[('p', Part::Whole)],
        attached_only: true,
        ..NOTHING
    },
    SecretOptions {
        names: &["7z", "7za", "7zr", "7zz"],
        with_value: "omtxvws",
        letters: &[('p', Part::Whole)],
        attached_only: true,
        ..NOTHING
    },
    SecretOptions {
        names: &["sshpass"],
        with_value: "fdP",
        letters: &[('p', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["redis-cli"],
        with_value: "hpnsrdi",
        letters: &[('a', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"],
        with_value: "udchoqf",
        letters: &[('p', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["sqlcmd", "bcp", "isql", "tsql", "osql", "ipmitool", "ldapdelete", "tdbc", "db2"],
        with_value: "SUdQioHIDu",
        letters: &[('P', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["ldapsearch", "ldapmodify", "ldapadd", "ldapwhoami", "ldappasswd"],
        with_value: "DHbsfhpPo",
        letters: &[('w', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["smbclient", "rpcclient", "smbget"],
        with_value: "cDWIpN",
        letters: &[('U', Part::Percent)],
        words: &[("user", Part::Percent)],
        ..NOTHING
    },
    SecretOptions {
        names: &["zip", "unzip", "zipcloak", "fcrackzip"],
        with_value: "dxibnt",
        letters: &[('P', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["lftp"],
        with_value: "pef",
        letters: &[('u', Part::Comma)],
        words: &[("user", Part::Comma)],
        ..NOTHING
    },
    SecretOptions {
        names: &["ncftpput", "ncftpget"],
        with_value: "uPdm",
        letters: &[('p', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["ab", "siege"],
        with_value: "ncCHpTt",
        letters: &[('A', Part::Colon), ('P', Part::Colon)],
        ..NOTHING
    },
    SecretOptions {
        names: &["http", "https", "xh", "xhs"],
        with_value: "osp",
        letters: &[('a', Part::Colon)],
        words: &[("auth", Part::Colon)],
        ..NOTHING
    },
    SecretOptions {
        names: &[
            "docker login",
            "podman login",
            "nerdctl login",
            "skopeo login",
            "buildah login",
            "helm login",
            "oc login",
            "az login",
            "twine upload",
            "crane login",
            "oras login",
        ],
        with_value: "un",
        letters: &[('p', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["openssl"],
        words: &[
            ("passin", Part::Labelled),
            ("passout", Part::Labelled),
            ("pass", Part::Labelled),
            ("k", Part::Whole),
            ("K", Part::Whole),
        ],
        ..NOTHING
    },
    SecretOptions {
        names: &["snmpget", "snmpwalk", "snmpset", "snmpbulkwalk"],
        with_value: "vlunr",
        letters: &[('A', Part::Whole), ('X', Part::Whole)],
        ..NOTHING
    },
    SecretOptions {
        names: &["ffmpeg", "ffprobe", "x264", "x265", "HandBrakeCLI"],
        harmless: &["pass"],
        ..NOTHING
    },
    SecretOptions {
        names: &["gcloud", "docker", "buildctl", "podman", "nerdctl", "buildah"],
        harmless: &["secret", "secrets", "set-secrets", "update-secrets"],
        ..NOTHING
    },
    SecretOptions { names: &["skopeo", "helm", "oc", "az", "twine", "crane", "oras"], ..NOTHING },
    SecretOptions {
        names: &[
            "psql",
            "pg_dump",
            "pg_restore",
            "pg_dumpall",
            "createdb",
            "dropdb",
            "pg_basebackup",
        ],
        harmless: &["password"],
        ..NOTHING
    },
    SecretOptions { names: &["apptainer", "singularity"], harmless: &["pwd"], ..NOTHING },
    SecretOptions {
        names: &["sqlplus", "impdp", "expdp", "sqlldr", "rman", "exp", "imp"],
        operand: Some(Part::Slash),
        ..NOTHING
    },
];
