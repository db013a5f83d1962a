// node-postgres
const fs = require("fs");
const { Client } = require(process.env.LOGIN_MODULES + "/pg");

const env = process.env;
const ssl = {
  disable: false,
  require: { rejectUnauthorized: false },
  "verify-full": env.LOGIN_ROOTCERT && { ca: fs.readFileSync(env.LOGIN_ROOTCERT), rejectUnauthorized: true },
}[env.LOGIN_SSLMODE];

async function main() {
  const client = new Client({
    host: env.LOGIN_HOST,
    port: Number(env.LOGIN_PORT),
    user: env.LOGIN_USER,
    password: env.LOGIN_PASSWORD,
    database: env.LOGIN_DATABASE,
    connectionTimeoutMillis: 15000,
    ssl,
  });
  await client.connect();
  const query = { name: "twice", text: "SELECT current_user::text AS u, $1::int + 1 AS n, $2::text || 'é' AS t", values: [41, "caf"] };
  await client.query(query);
  const { u, n, t } = (await client.query(query)).rows[0];
  console.log([u, n, t, client.connection.stream.encrypted ? "tls" : "plain"].join("|"));
  await client.end();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
