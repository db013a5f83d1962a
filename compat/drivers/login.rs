//! tokio-postgres.

use std::{env, error::Error, process::ExitCode};

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::{Client, Config, NoTls, config::SslMode};

fn place(name: &str) -> String {
    env::var(format!("LOGIN_{name}")).unwrap_or_default()
}

async fn login() -> Result<String, Box<dyn Error>> {
    let mode = place("SSLMODE");
    let mut config = Config::new();
    config
        .host(place("HOST"))
        .port(place("PORT").parse()?)
        .user(place("USER"))
        .password(place("PASSWORD"))
        .dbname(place("DATABASE"));
    let (client, connection);
    if mode == "disable" {
        config.ssl_mode(SslMode::Disable);
        let (made, driver) = config.connect(NoTls).await?;
        (client, connection) = (made, tokio::spawn(driver));
    } else {
        config.ssl_mode(SslMode::Require);
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        if mode == "verify-full" {
            builder.set_ca_file(place("ROOTCERT"))?;
        } else {
            builder.set_verify(SslVerifyMode::NONE);
        }
        let mut tls = MakeTlsConnector::new(builder.build());
        let full = mode == "verify-full";
        tls.set_callback(move |one, _| {
            one.set_verify_hostname(full);
            Ok(())
        });
        let (made, driver) = config.connect(tls).await?;
        (client, connection) = (made, tokio::spawn(driver));
    }
    let line = ask(&client).await?;
    drop(client);
    connection.await??;
    let tls = if mode == "disable" { "plain" } else { "tls" };
    Ok(format!("{line}|{tls}"))
}

async fn ask(client: &Client) -> Result<String, tokio_postgres::Error> {
    let statement = client
        .prepare("SELECT current_user::text, $1::int + 1, $2::text || 'é'")
        .await?;
    client.query_one(&statement, &[&41i32, &"caf"]).await?;
    let row = client.query_one(&statement, &[&41i32, &"caf"]).await?;
    let (user, number, text): (String, i32, String) = (row.get(0), row.get(1), row.get(2));
    Ok(format!("{user}|{number}|{text}"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match login().await {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
