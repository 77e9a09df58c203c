--- What Hibernate, EclipseLink, jOOQ, MyBatis, Spring and the JDBC driver's own metadata send.
--- reads
select c1_0.id,c1_0.country,c1_0.email,c1_0.name,c1_0.version from customer c1_0 where c1_0.id=$1
select c1_0.id,c1_0.name,o1_0.customer_id,o1_0.id,o1_0.status from customer c1_0 left join orders o1_0 on c1_0.id=o1_0.customer_id where c1_0.id=$1
select o1_0.id,o1_0.amount from orders o1_0 where o1_0.customer_id=$1 and o1_0.status=$2 order by o1_0.placed_at desc offset $3 rows fetch first $4 rows only
select o1_0.id from orders o1_0 where o1_0.customer_id=any($1)
select count(o1_0.id) from orders o1_0 where o1_0.status in ($1,$2)
select count(*) from customer c1_0
select case when (count(*)>0) then true else false end from customer c1_0 where c1_0.email=$1
select customer0_.id as id1_0_, customer0_.name as name2_0_ from customer customer0_ where lower(customer0_.name) like lower($1) escape '\'
select orders0_.id as id1_1_0_, customer1_.id as id1_0_1_ from orders orders0_ inner join customer customer1_ on orders0_.customer_id=customer1_.id where orders0_.amount>$1 limit $2
select distinct customer0_.country as col_0_0_ from customer customer0_ order by customer0_.country asc
select c1_0.country,sum(o1_0.amount),avg(o1_0.amount) from customer c1_0 join orders o1_0 on c1_0.id=o1_0.customer_id group by c1_0.country having sum(o1_0.amount)>$1
select c1_0.id from customer c1_0 where exists(select 1 from orders o1_0 where o1_0.customer_id=c1_0.id and o1_0.order_date>=current_date)
select c1_0.id,case c1_0.dtype when 'Gold' then 1 when 'Basic' then 2 end from customer c1_0
select c1_0.id from customer c1_0 where c1_0.created between $1 and $2 and c1_0.name is not null
select ol1_0.order_id,ol1_0.id,ol1_0.price,ol1_0.quantity from order_line ol1_0 where ol1_0.order_id in ($1,$2,$3,$4,$5,$6,$7,$8)
select cast(c1_0.created as date),extract(year from c1_0.created),trim(both ' ' from c1_0.name),substring(c1_0.name from 1 for 3),position('a' in c1_0.name),char_length(c1_0.name),overlay(c1_0.name placing 'x' from 1) from customer c1_0
select concat(c1_0.name,' ',c1_0.email),coalesce(c1_0.country,'??'),nullif(c1_0.version,0),mod(c1_0.id,7),abs(c1_0.version),sqrt(4),floor(2.5),ceiling(2.5),round(2.55,1) from customer c1_0
select localtime, localtimestamp, current_time, current_timestamp, current_timestamp(3)
select row_number() over(order by c1_0.id),c1_0.id from customer c1_0
select t.* from (select o.*, rank() over (partition by o.customer_id order by o.amount desc) as rnk from orders o) t where t.rnk = 1
select "public"."customer"."id", "public"."customer"."name" from "public"."customer" where ("public"."customer"."id" = $1 and "public"."customer"."country" in ($2, $3)) order by "public"."customer"."id" desc fetch next $4 rows only
select multiset_agg from (select jsonb_agg(jsonb_build_array("v0", "v1")) as multiset_agg from (select "order_line"."sku" as "v0", "order_line"."price" as "v1" from "order_line") as "t") as q
select 1
select 1 from customer limit 0
SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME, CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' WHEN true THEN 'SYSTEM TABLE' ELSE CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE NULL END END AS TABLE_TYPE, d.description AS REMARKS FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 and d.classoid = 'pg_class'::regclass) WHERE c.relnamespace = n.oid AND c.relname LIKE 'users' ORDER BY TABLE_TYPE,TABLE_SCHEM,TABLE_NAME
SELECT * FROM (SELECT n.nspname,c.relname,a.attname,a.atttypid,a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS attnotnull,a.atttypmod,a.attlen,t.typtypmod,row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum, nullif(a.attidentity, '') as attidentity,nullif(a.attgenerated, '') as attgenerated,pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc,dsc.description,t.typbasetype,t.typtype FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid) JOIN pg_catalog.pg_attribute a ON (a.attrelid=c.oid) JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid=def.adrelid AND a.attnum = def.adnum) LEFT JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) WHERE c.relkind in ('r','p','v','f','m') and a.attnum > 0 AND NOT a.attisdropped AND c.relname LIKE 'users') c WHERE true ORDER BY nspname,c.relname,attnum
SELECT typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname, pg_type.oid FROM pg_catalog.pg_type LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r from pg_namespace as ns join ( select s.r, (current_schemas(false))[s.r] as nspname from generate_series(1, array_upper(current_schemas(false), 1)) as s(r) ) as r using ( nspname )) as sp ON sp.nspoid = typnamespace WHERE pg_type.typname = $1 ORDER BY sp.r, pg_type.oid DESC
SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = $1
SELECT current_database(), current_schema(), session_user, current_user, version()
SELECT nspname AS TABLE_SCHEM, NULL AS TABLE_CATALOG FROM pg_catalog.pg_namespace WHERE nspname <> 'pg_toast' AND (nspname !~ '^pg_temp_' OR nspname = (pg_catalog.current_schemas(true))[1]) AND (nspname !~ '^pg_toast_temp_' OR nspname = replace((pg_catalog.current_schemas(true))[1], 'pg_temp_', 'pg_toast_temp_')) ORDER BY TABLE_SCHEM
select "installed_rank","version","description","type","script","checksum","installed_on","installed_by","execution_time","success" from "public"."flyway_schema_history" where "installed_rank" > $1 order by "installed_rank"
SELECT rolname FROM pg_roles WHERE rolname = current_user
SHOW TRANSACTION ISOLATION LEVEL
SELECT * FROM information_schema.sequences
select table_name, column_name, data_type, is_nullable from information_schema.columns where table_schema = 'public' order by table_name, ordinal_position
--- kept unknown_function: the driver calls a function of information_schema, which only the catalog knows
SELECT result.TABLE_CAT, result.COLUMN_NAME, result.KEY_SEQ FROM (SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME, information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE true AND ct.relname = 'users' AND i.indisprimary) result where result.A_ATTNUM = (result.KEYS).x
--- writes
select nextval('customer_seq')
select nextval ('hibernate_sequence')
insert into customer (country,email,name,version,id) values ($1,$2,$3,$4,$5)
update customer set name=$1,version=$2 where id=$3 and version=$4
delete from orders where id=$1 and version=$2
select c1_0.id from customer c1_0 where c1_0.id=$1 for no key update
select c1_0.id from customer c1_0 where c1_0.id=$1 for update of c1_0 skip locked
select c1_0.id from customer c1_0 where c1_0.id=$1 for share
insert into customer (id,name) select o1_0.id,o1_0.status from orders o1_0
with ids as (select id from orders limit 10) delete from orders where id in (select id from ids)
merge into account a using orders o on a.id = o.id when matched then update set balance = a.balance + o.amount
call transfer($1,$2)
create sequence hibernate_sequence start 1 increment 1
create temporary table HTE_customer(id bigint not null, rn_ integer not null)
set session characteristics as transaction read only
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED
SET application_name = 'PostgreSQL JDBC Driver'
set search_path = tenant_1
SELECT pg_try_advisory_lock(77431708279161)
insert into "public"."flyway_schema_history" ("installed_rank") values (1)
DO $$ BEGIN RAISE NOTICE 'x'; END $$
