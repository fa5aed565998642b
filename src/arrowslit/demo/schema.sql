-- The demo's database: one table, one role that may do two things with it, and row-level security underneath.
-- Runs as a superuser in the database `inventory`, as often as you like. The password of `inventory_app` is set apart.

do $$ begin
  if not exists (select from pg_roles where rolname = 'inventory_owner') then
    create role inventory_owner;
  end if;
  if not exists (select from pg_roles where rolname = 'inventory_app') then
    create role inventory_app;
  end if;
end $$;

-- Owns the table and logs in nowhere: who owns a table may take its row-level security away.
alter role inventory_owner nologin nosuperuser nocreatedb nocreaterole noreplication nobypassrls noinherit;

-- The stock server. NOINHERIT: policies of roles that a role inherits are OR-ed to its own.
alter role inventory_app login nosuperuser nocreatedb nocreaterole noreplication nobypassrls noinherit;
alter role inventory_app set search_path = stock, pg_temp;  -- pg_temp last, so that no temporary table hides ours
alter role inventory_app set statement_timeout = '5s';
alter role inventory_app set lock_timeout = '2s';
alter role inventory_app set idle_in_transaction_session_timeout = '10s';

-- What everybody may do by default, and need not: connect elsewhere, temporary tables, code in the database.
revoke all on database inventory, postgres, template1 from public;
revoke all on schema public from public;
revoke usage on language plpgsql from public;

create schema if not exists stock authorization inventory_owner;

create table if not exists stock.inventory (
  tenant text not null check (tenant ~ '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$'),
  sku text not null check (sku ~ '^[A-Za-z0-9]{1,32}$'),
  quantity integer not null check (quantity between 0 and 1000000),
  restock_date date,
  primary key (tenant, sku)
);
alter table stock.inventory owner to inventory_owner;

-- Row-level security by a setting of the transaction: the second lock, under the WHERE clause of every statement.
-- It holds against a statement of ours that forgets its WHERE, or has a wrong one: without a tenant there are no rows,
-- with one there are its rows and no others, to read or to write. It does not hold against SQL that somebody else wrote:
-- whoever may run any statement may run set_config too. So this kind fits tools with fixed statements and bound
-- parameters, as ours are. A tool that runs free SQL needs a login role per tenant, or a signed setting.
-- After a transaction that set it, the setting is '' and not NULL: both are no tenant.
alter table stock.inventory enable row level security;
alter table stock.inventory force row level security;  -- for its owner too
drop policy if exists one_tenant on stock.inventory;
create policy one_tenant on stock.inventory
  using (tenant = nullif(current_setting('app.tenant', true), ''))
  with check (tenant = nullif(current_setting('app.tenant', true), ''));

grant connect on database inventory to inventory_app;
grant usage on schema stock to inventory_app;
revoke all on stock.inventory from public, inventory_app;
grant select, update (quantity) on stock.inventory to inventory_app;
