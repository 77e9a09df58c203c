# Ruby's pg: exec_params, named statements, COPY, notifications, single-row mode, pipelines.
require "pg"

WORKERS = Integer(ENV.fetch("WORKERS", "50"))

def code
  yield
  "no error"
rescue PG::Error => error
  error.result&.error_field(PG::PG_DIAG_SQLSTATE) || error.message
end

def exercise(say, number)
  table = "ruby_pg_#{number}"
  conn = PG.connect(ENV.fetch("DATABASE_URL"))
  conn.set_notice_processor { }
  conn.exec("DROP TABLE IF EXISTS #{table}; CREATE TABLE #{table} (id int PRIMARY KEY, name text)")
  insert = "INSERT INTO #{table} VALUES ($1, $2) RETURNING id"
  say.("returning", (0...20).map { |i| conn.exec_params(insert, [i, "n#{i}"]).getvalue(0, 0) })
  conn.prepare("by id", "SELECT name FROM #{table} WHERE id = $1")
  say.("prepared", (0...20).map { |i| conn.exec_prepared("by id", [i]).getvalue(0, 0) })
  say.("described", conn.describe_prepared("by id").fields)
  say.("error", code { conn.exec_params(insert, [1, "again"]) }, code { conn.exec("SELECT 1 / 0") })
  say.("error", code { conn.exec_prepared("unknown") }, code { conn.prepare("by id", "SELECT 1") })
  say.("lost", code {
    conn.transaction do
      conn.exec("DELETE FROM #{table}")
      conn.exec("SAVEPOINT one")
      say.("inner", code { conn.exec_params(insert, ["x", "y"]) })
      conn.exec("ROLLBACK TO one")
      say.("inside", conn.exec("SELECT count(*) FROM #{table}").values)
      conn.exec("SELECT 1 / 0")
    end
  })
  say.("rolled back", conn.exec("SELECT count(*) FROM #{table}").values)
  conn.transaction { conn.exec("UPDATE #{table} SET name = 'kept' WHERE id = 1") }
  say.("kept", conn.exec_prepared("by id", [1]).values)
  conn.send_query("SELECT generate_series(1, 500)")
  conn.set_single_row_mode
  say.("rows", conn.get_result.stream_each_row.sum { |row| row[0].to_i })
  conn.get_last_result
  conn.copy_data("COPY #{table} FROM STDIN") { (200...300).each { |i| conn.put_copy_data("#{i}\tcopied\n") } }
  copied = 0
  conn.copy_data("COPY (SELECT id FROM #{table} WHERE name = 'copied') TO STDOUT") do
    while (row = conn.get_copy_data)
      copied += row.to_i
    end
  end
  say.("copy", copied)
  if conn.respond_to?(:enter_pipeline_mode)
    conn.enter_pipeline_mode
    10.times { |i| conn.send_query_params("SELECT name FROM #{table} WHERE id = $1", [i]) }
    conn.send_query_params("SELECT 1 / $1::int", [0])
    conn.send_query_params("SELECT 1", [])
    conn.pipeline_sync
    states = []
    loop do
      result = conn.get_result or next
      states << result.res_status(result.result_status)
      break if result.result_status == PG::PGRES_PIPELINE_SYNC
    end
    conn.exit_pipeline_mode
    say.("pipeline", states)
  end
  conn.exec("CREATE TEMP TABLE scratch AS SELECT 5 AS n")
  say.("temporary", conn.exec("SELECT n FROM scratch").values)
  conn.exec("DROP TABLE scratch")
  conn.exec("SET timezone TO 'Asia/Tokyo'")
  say.("set", conn.exec("SELECT '2020-01-01 00:00+00'::timestamptz::text").values)
  conn.exec("SELECT pg_advisory_lock(7001)")
  say.("unlocked", conn.exec("SELECT pg_advisory_unlock(7001)").values)
  conn.exec("LISTEN #{table}")
  conn.exec("NOTIFY #{table}, 'hello'")
  conn.wait_for_notify(20) { |_, _, payload| say.("notified", payload) }
  conn.exec("UNLISTEN *")
  conn.exec("DROP TABLE #{table}")
  conn.close
end

texts = (0...WORKERS).map { |number|
  Thread.new do
    lines = []
    say = ->(what, *values) { lines << "#{what}: #{values.join(" ")}" }
    begin
      exercise(say, number)
    rescue StandardError => error
      say.("FAILED", error.class, error.message)
    end
    lines.join("\n")
  end
}.map(&:value)
usual = texts.uniq.sort.max_by { |text| texts.count(text) }
puts usual, "#{texts.count(usual)} of #{texts.size} clients alike"
(texts.uniq.sort - [usual]).each { |text| puts "---- #{texts.count(text)} other:", text }
