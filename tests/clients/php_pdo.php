<?php
// PHP's PDO with its defaults: real prepared statements, closed when their objects go; processes, since PHP has no threads.
function code(callable $work): string {
    try {
        $work();
        return "no error";
    } catch (PDOException $error) {
        return $error->getCode();
    }
}

function exercise(callable $say, int $number): void {
    $table = "php_pdo_$number";
    $url = parse_url(getenv("DATABASE_URL"));
    $dsn = sprintf("pgsql:host=%s;port=%d;dbname=%s", $url["host"], $url["port"], substr($url["path"], 1));
    $db = new PDO($dsn, $url["user"], null, [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    $value = fn(string $text) => json_encode($db->query($text)->fetchAll(PDO::FETCH_NUM));
    $db->exec("DROP TABLE IF EXISTS $table");
    $db->exec("CREATE TABLE $table (id int PRIMARY KEY, name text)");
    $insert = $db->prepare("INSERT INTO $table VALUES (:id, :name) RETURNING id");
    $ids = [];
    for ($i = 0; $i < 20; $i++) {
        $insert->execute(["id" => $i, "name" => "n$i"]);
        $ids[] = $insert->fetchColumn();
    }
    $say("returning", json_encode($ids));
    $names = [];
    for ($i = 0; $i < 20; $i++) {
        $select = $db->prepare("SELECT name FROM $table WHERE id = ?");
        $select->execute([$i]);
        $names[] = $select->fetchColumn();
    }
    $say("prepared", json_encode($names));
    $say("error", code(fn() => $insert->execute(["id" => 1, "name" => "again"])));
    $say("error", code(fn() => $db->query("SELECT 1 / 0")));
    $db->beginTransaction();
    $db->exec("DELETE FROM $table");
    $db->exec("SAVEPOINT one");
    $say("inner", code(fn() => $insert->execute(["id" => "x", "name" => "y"])), code(fn() => $db->query("SELECT 1")));
    $db->exec("ROLLBACK TO one");
    $say("inside", $value("SELECT count(*) FROM $table"));
    $db->rollBack();
    $say("rolled back", $value("SELECT count(*) FROM $table"));
    $db->beginTransaction();
    $db->exec("UPDATE $table SET name = 'kept' WHERE id = 1");
    $db->commit();
    $say("kept", $value("SELECT name FROM $table WHERE id = 1"));
    $rows = array_map(fn($i) => "$i\tcopied", range(200, 299));
    $say("copy", json_encode($db->pgsqlCopyFromArray($table, $rows)), count($db->pgsqlCopyToArray($table)));
    $db->exec("CREATE TEMP TABLE scratch AS SELECT 5 AS n");
    $say("temporary", $value("SELECT n FROM scratch"));
    $db->exec("DROP TABLE scratch");
    $db->exec("SET timezone TO 'Asia/Tokyo'");
    $say("set", $value("SELECT '2020-01-01 00:00+00'::timestamptz::text"));
    $db->query("SELECT pg_advisory_lock(4001)");
    $say("unlocked", $value("SELECT pg_advisory_unlock(4001)"));
    $db->beginTransaction();
    $object = $db->pgsqlLOBCreate();
    $stream = $db->pgsqlLOBOpen($object, "w");
    fwrite($stream, str_repeat("large", 1000));
    $stream = null;
    $say("large object", strlen(stream_get_contents($db->pgsqlLOBOpen($object, "r"))));
    $db->pgsqlLOBUnlink($object);
    $db->commit();
    $db->exec("LISTEN $table");
    $db->exec("NOTIFY $table, 'hello'");
    $notice = $db->pgsqlGetNotify(PDO::FETCH_ASSOC, 20000);
    $say("notified", json_encode($notice["payload"] ?? null));
    $db->exec("UNLISTEN *");
    $db->exec("DROP TABLE $table");
}

if (isset($argv[1])) {
    try {
        exercise(fn(...$values) => print(implode(" ", $values) . "\n"), (int) $argv[1]);
    } catch (Throwable $error) {
        print("FAILED " . get_class($error) . " " . $error->getMessage() . "\n");
    }
    exit(0);
}
$pipes = [];
for ($i = 0; $i < (int) (getenv("WORKERS") ?: 50); $i++) {
    $pipes[] = popen(escapeshellarg(PHP_BINARY) . " " . escapeshellarg(__FILE__) . " $i", "r");
}
$texts = array_map("stream_get_contents", $pipes);
$counts = array_count_values($texts);
ksort($counts);
arsort($counts);
foreach ($counts as $text => $count) {
    print($text . "$count of " . count($texts) . " clients alike\n");
}
