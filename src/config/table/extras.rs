//! Rows of the parameter table: query cache, TLS, and names that releases before 3.7 knew.

use super::build::{INT_MAX, bool, choice, int, legacy, list, text};
use crate::config::{
    Release,
    parameter::{Context, Parameter, Unit},
};

pub(super) const ROWS: &[Parameter] = &[
    list("black_memqcache_table_list", "cache", Context::Reload, ',')
        .defaults(&[(Release::V3_7, None)])
        .last(Release::V4_1)
        .counterparts(&["cache_unsafe_memqcache_table_list"])
        .description("list of tables should not be cached.")
        .help("Tables never cached (old name of cache_unsafe_memqcache_table_list)"),
    list(
        "cache_safe_memqcache_table_list",
        "cache",
        Context::Reload,
        ',',
    )
    .defaults(&[(Release::V4_2, None)])
    .first(Release::V4_2)
    .counterparts(&["white_memqcache_table_list"])
    .description("list of tables to be cached.")
    .help(
        "Regex list of tables/views whose SELECTs are cached even if they would \
             normally not be",
    ),
    list(
        "cache_unsafe_memqcache_table_list",
        "cache",
        Context::Reload,
        ',',
    )
    .defaults(&[(Release::V4_2, None)])
    .first(Release::V4_2)
    .counterparts(&["black_memqcache_table_list"])
    .description("list of tables should not be cached.")
    .help("Regex list of tables whose SELECTs are never cached"),
    bool("enable_shared_relcache", "cache", Context::Startup)
        .defaults(&[(Release::V4_1, Some("on"))])
        .first(Release::V4_1)
        .description("relation cache stored in memory cache.")
        .help(
            "Share the catalog look-up cache between children (uses the query-cache \
             memory)",
        ),
    bool("memory_cache_enabled", "cache", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Enables the memory cache functionality.")
        .help("Switch the query cache on"),
    bool(
        "memqcache_auto_cache_invalidation",
        "cache",
        Context::Reload,
    )
    .defaults(&[(Release::V3_7, Some("on"))])
    .description("Automatically deletes the cache related to the updated tables.")
    .help("Drop cache entries of a table when it is written"),
    int(
        "memqcache_cache_block_size",
        "cache",
        Context::Startup,
        512,
        INT_MAX,
        Unit::Bytes,
    )
    .defaults(&[(Release::V3_7, Some("1048576"))])
    .description("Cache block size in bytes.")
    .help("Size of one cache block in shared memory"),
    int(
        "memqcache_expire",
        "cache",
        Context::Startup,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("0"))])
    .description("Memory cache entry life time specified in seconds.")
    .help("Life time of a cache entry in seconds; 0 is for ever"),
    int(
        "memqcache_max_num_cache",
        "cache",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("1000000"))])
    .description("Total number of cache entries.")
    .help("Maximum number of cache entries"),
    int(
        "memqcache_maxcache",
        "cache",
        Context::Startup,
        0,
        INT_MAX,
        Unit::Bytes,
    )
    .defaults(&[(Release::V3_7, Some("409600"))])
    .description("Maximum SELECT result size in bytes.")
    .help("Largest result that is cached; must be below the block size"),
    text("memqcache_memcached_host", "cache", Context::Startup)
        .defaults(&[(Release::V3_7, Some("localhost"))])
        .description("Hostname or IP address of memcached.")
        .help("Memcached server host"),
    int(
        "memqcache_memcached_port",
        "cache",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("11211"))])
    .description("Port number of Memcached server.")
    .help("Memcached server port"),
    choice(
        "memqcache_method",
        "cache",
        Context::Startup,
        &[("shmem", 1), ("memcached", 2)],
    )
    .defaults(&[(Release::V3_7, Some("shmem"))])
    .description(
        "Cache store method. either shmem(shared memory) or Memcached. shmem by \
             default.",
    )
    .help("Where cache entries are kept"),
    text("memqcache_oiddir", "cache", Context::Startup)
        .defaults(&[(Release::V3_7, Some("/var/log/pgpool/oiddir"))])
        .description("Temporary directory to record table oids.")
        .help("Directory in which the table oid maps are kept"),
    int(
        "memqcache_total_size",
        "cache",
        Context::Startup,
        0,
        i64::MAX,
        Unit::Bytes,
    )
    .defaults(&[(Release::V3_7, Some("67108864"))])
    .description("Total memory size in bytes for storing memory cache.")
    .help("Shared memory for the query cache"),
    int(
        "relcache_expire",
        "cache",
        Context::Startup,
        0,
        i64::MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("0"))])
    .description("Relation cache expiration time in seconds.")
    .help("Life time of a catalog cache entry; 0 is for ever"),
    int(
        "relcache_size",
        "cache",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("256"))])
    .description("Number of relation cache entry.")
    .help("Entries of the per-child catalog cache"),
    list("white_memqcache_table_list", "cache", Context::Reload, ',')
        .defaults(&[(Release::V3_7, None)])
        .last(Release::V4_1)
        .counterparts(&["cache_safe_memqcache_table_list"])
        .description("list of tables to be cached.")
        .help("Old name of cache_safe_memqcache_table_list"),
    bool("ssl", "ssl", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Enables SSL support for frontend and backend connections")
        .help("Accept SSL from clients and use it towards the backends"),
    text("ssl_ca_cert", "ssl", Context::Startup)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Single PEM format file containing CA root certificate(s).")
        .help("File with CA certificates"),
    text("ssl_ca_cert_dir", "ssl", Context::Startup)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Directory containing CA root certificate(s).")
        .help("Directory with CA certificates"),
    text("ssl_cert", "ssl", Context::Startup)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("SSL public certificate file.")
        .help("Server certificate file"),
    text("ssl_ciphers", "ssl", Context::Startup)
        .defaults(&[(Release::V3_7, Some("HIGH:MEDIUM:+3DES:!aNULL"))])
        .description("Allowed SSL ciphers.")
        .help("Allowed cipher list"),
    text("ssl_crl_file", "ssl", Context::Startup)
        .defaults(&[(Release::V4_2, Some(""))])
        .first(Release::V4_2)
        .description("SSL certificate revocation list file")
        .help("Certificate revocation list file"),
    text("ssl_dh_params_file", "ssl", Context::Startup)
        .defaults(&[(Release::V4_1, Some(""))])
        .first(Release::V4_1)
        .description("Path to the Diffie-Hellman parameters contained file")
        .help("Diffie-Hellman parameter file"),
    text("ssl_ecdh_curve", "ssl", Context::Startup)
        .defaults(&[(Release::V4_1, Some("prime256v1"))])
        .first(Release::V4_1)
        .description("The curve to use in ECDH key exchange.")
        .help("Curve for ECDH"),
    text("ssl_key", "ssl", Context::Startup)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("SSL private key file.")
        .help("Private key file of the server"),
    text("ssl_passphrase_command", "ssl", Context::Startup)
        .defaults(&[(Release::V4_2, Some(""))])
        .first(Release::V4_2)
        .description("Path to the Diffie-Hellman parameters contained file")
        .help("Command that prints the key's pass phrase; %p is replaced by a prompt"),
    bool("ssl_prefer_server_ciphers", "ssl", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Use server's SSL cipher preferences, rather than the client's")
        .help("Use the server's cipher order"),
    legacy("allow_inet_domain_socket", Release::new(3, 5))
        .counterparts(&["listen_addresses"])
        .help("Boolean of 2.x/3.x: listen on TCP"),
    legacy("backend_socket_dir", Release::new(3, 4))
        .counterparts(&["backend_hostname"])
        .help(
            "Directory of the backends' unix sockets; put the directory in \
             backend_hostnameN instead",
        ),
    legacy("debug_level", Release::new(3, 5))
        .counterparts(&["log_min_messages"])
        .help("Integer debug level; use log_min_messages / -d"),
    legacy("enable_query_cache", Release::new(3, 3))
        .counterparts(&["memory_cache_enabled"])
        .help("Old on-disk query cache"),
    legacy("ifconfig_path", Release::new(3, 4))
        .counterparts(&["if_cmd_path"])
        .help("Renamed to if_cmd_path in 3.5"),
    legacy("parallel_mode", Release::new(3, 4)).help("Parallel query mode (dropped)"),
    legacy("pcp_timeout", Release::new(3, 4)).help("Idle timeout of PCP"),
    legacy("pgpool2_hostname", Release::new(3, 4)).help("Own host name for parallel mode"),
    legacy("print_timestamp", Release::new(3, 5))
        .counterparts(&["log_line_prefix"])
        .help("Timestamp in the log; see log_line_prefix"),
    legacy("print_user", Release::new(3, 5))
        .counterparts(&["log_line_prefix"])
        .help("User in the log; see log_line_prefix"),
    legacy("system_db_hostname", Release::new(3, 4)).help("System database of parallel mode"),
    legacy("system_db_port", Release::new(3, 4)).help("System database of parallel mode"),
    legacy("system_db_dbname", Release::new(3, 4)).help("System database of parallel mode"),
    legacy("system_db_schema", Release::new(3, 4)).help("System database of parallel mode"),
    legacy("system_db_user", Release::new(3, 4)).help("System database of parallel mode"),
    legacy("system_db_password", Release::new(3, 4)).help("System database of parallel mode"),
];
