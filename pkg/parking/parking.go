package parking

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/kafka"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the table parked: db.Migrate(ctx, "parked", parking.Migrations).
var Migrations = database.Folder(files)

const (
	// refreshEvery is how soon a process hears of what others have blocked or let go.
	refreshEvery = time.Second
	// Bounds of what First reads: messages, and bytes of values before the last.
	firstMessages = 16
	firstBytes    = 64 << 10
)

// Store is a consumer group's table. It is package kafka's Parking.
type Store struct {
	db    *database.DB
	group string
	free  []string
	now   func() time.Time
	// wake asks for a refresh.
	wake chan struct{}

	// changing is held while blocked is brought up to date, so that nobody's look into the table is older than another's.
	changing sync.Mutex
	mu       sync.RWMutex
	blocked  map[string]bool
	any      atomic.Bool // whether blocked has any
}

// New returns the store of a consumer group. No message of a topic in free is held because its key is blocked: that is
// where messages come from which end it.
func New(db *database.DB, group string, now func() time.Time, free ...string) *Store {
	return &Store{db: db, group: group, free: free, now: now, wake: make(chan struct{}, 1), blocked: map[string]bool{}}
}

// Run keeps in memory which keys are blocked, until ctx ends.
func (s *Store) Run(ctx context.Context, logger *slog.Logger) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for failed := false; ; {
		err := s.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failed {
			logger.WarnContext(ctx, "which keys are blocked is not known afresh, trying again", "group", s.group, "error", err)
		}
		failed = err != nil
		select {
		case <-tick.C:
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) refresh(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	blocked := map[string]bool{}
	err := s.query(ctx, "read blocked keys", `SELECT DISTINCT record_key FROM parked WHERE consumer = $1 AND blocked_at IS NOT NULL`,
		func(row database.Scanner) error {
			var key []byte
			err := row.Scan(&key)
			blocked[string(key)] = true
			return err
		}, s.group)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked = blocked
	s.any.Store(len(blocked) > 0)
	return nil
}

// Held implements kafka.Parking.
func (s *Store) Held(topic, key string) bool {
	if !s.any.Load() || slices.Contains(s.free, topic) {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.blocked[key]
}

// Load implements kafka.Parking. What is blocked is known before anything of the partition is handed out.
func (s *Store) Load(ctx context.Context, topic string, partition int32) (keys []kafka.ParkedKey, err error) {
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return keys, s.query(ctx, "read parked keys", `SELECT record_key, COUNT(*), MAX(record_offset) FROM parked
		WHERE consumer = $1 AND topic = $2 AND record_partition = $3 GROUP BY record_key`,
		func(row database.Scanner) error {
			var key []byte
			var k kafka.ParkedKey
			err := row.Scan(&key, &k.Messages, &k.Last)
			k.Key = string(key)
			keys = append(keys, k)
			return err
		}, s.group, topic, partition)
}

// Park implements kafka.Parking, in one statement for as many messages as the database takes.
func (s *Store) Park(ctx context.Context, messages ...kafka.Parked) error {
	at := s.now().UTC()
	for chunk := range slices.Chunk(distinct(messages), database.MaxRows) {
		n := len(chunk)
		ids, topics, partitions, offsets := make([]string, n), make([]string, n), make([]int64, n), make([]int64, n)
		keys, values, headers := make([][]byte, n), make([][]byte, n), make([][]byte, n)
		times, dues, attempts := make([]time.Time, n), make([]time.Time, n), make([]int64, n)
		for i, m := range chunk {
			text, err := encodeHeaders(m.Headers)
			if err != nil {
				return fmt.Errorf("park %s: %w", id(m.Record), err)
			}
			ids[i], topics[i], partitions[i], offsets[i] = id(m.Record), m.Topic, int64(m.Partition), m.Offset
			keys[i], values[i], headers[i] = m.Key, m.Value, text
			times[i], dues[i], attempts[i] = m.Timestamp.UTC(), m.Due.UTC(), int64(m.Attempts)
		}
		rows, args := s.db.Dialect().Columns(
			database.Texts(slices.Repeat([]string{s.group}, n)), database.Texts(ids), database.Texts(topics), database.Ints(partitions), database.Ints(offsets),
			database.Blobs(keys), database.Blobs(values), database.Times(times), database.Blobs(headers), database.Ints(attempts),
			database.Times(dues), database.Times(slices.Repeat([]time.Time{at}, n)))
		_, err := s.db.ExecContext(ctx, `INSERT INTO parked (consumer, id, topic, record_partition, record_offset, record_key, record_value,
			record_time, headers, attempts, due_at, parked_at) `+rows+`
			ON CONFLICT (consumer, id) DO UPDATE SET attempts = excluded.attempts, due_at = excluded.due_at
			WHERE parked.attempts < excluded.attempts`, args...)
		if err != nil {
			return fmt.Errorf("park %d messages: %w", n, database.Classify(err))
		}
	}
	return nil
}

// id is the place of a message, as its dead letter has it.
func id(r kafka.Record) string { return fmt.Sprintf("%s-%d-%d", r.Topic, r.Partition, r.Offset) }

// distinct leaves of two entries of one message the one with more attempts: a statement touches a row once.
func distinct(messages []kafka.Parked) []kafka.Parked {
	at, left := make(map[string]int, len(messages)), make([]kafka.Parked, 0, len(messages))
	for _, m := range messages {
		switch i, is := at[id(m.Record)]; {
		case !is:
			at[id(m.Record)] = len(left)
			left = append(left, m)
		case left[i].Attempts < m.Attempts:
			left[i] = m
		}
	}
	return left
}

// First implements kafka.Parking.
func (s *Store) First(ctx context.Context, topic string, partition int32, key string) (first []kafka.Parked, err error) {
	return first, s.query(ctx, "read parked messages", `SELECT record_offset, record_key, record_value, record_value IS NULL, record_time, headers, attempts, due_at, blocked_at
		FROM (SELECT *, SUM(COALESCE(LENGTH(record_value), 0)) OVER (ORDER BY record_offset) - COALESCE(LENGTH(record_value), 0) AS before
			FROM (SELECT * FROM parked WHERE consumer = $1 AND topic = $2 AND record_partition = $3 AND record_key = $4
				ORDER BY record_offset LIMIT $5) AS nearest) AS summed
		WHERE before <= $6 ORDER BY record_offset`,
		func(row database.Scanner) error {
			m := kafka.Parked{Record: kafka.Record{Topic: topic, Partition: partition}}
			var headers []byte
			var blocked sql.NullTime
			var null bool
			err := row.Scan(&m.Offset, &m.Key, &m.Value, &null, &m.Timestamp, &headers, &m.Attempts, &m.Due, &blocked)
			if err == nil {
				m.Headers, err = decodeHeaders(headers)
			}
			if !null && m.Value == nil { // SQLite's driver makes no difference
				m.Value = []byte{}
			}
			m.Blocked, m.Timestamp = blocked.Valid, m.Timestamp.UTC()
			first = append(first, m)
			return err
		}, s.group, topic, partition, []byte(key), firstMessages, firstBytes)
}

// Remove implements kafka.Parking.
func (s *Store) Remove(ctx context.Context, topic string, partition int32, offsets ...int64) error {
	ids := make([]string, len(offsets))
	for i, offset := range offsets {
		ids[i] = id(kafka.Record{Topic: topic, Partition: partition, Offset: offset})
	}
	return s.remove(ctx, s.db, ids)
}

// Release lets messages go, in the transaction that has handled their dead letters or discarded them, whose ids are given.
// One that is not parked is fine.
func (s *Store) Release(ctx context.Context, tx *database.Tx, letters ...string) error {
	tx.AfterCommit(func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	})
	return s.remove(ctx, tx, letters)
}

// executor is a database or a transaction.
type executor interface {
	Dialect() database.Dialect
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (s *Store) remove(ctx context.Context, in executor, ids []string) error {
	for chunk := range slices.Chunk(ids, in.Dialect().Batch()) {
		// Pairs, as in inbox.Seen, which says why. Not by the rows' places: PostgreSQL leaves one out that was changed meanwhile.
		asked, args := in.Dialect().Columns(database.Texts(slices.Repeat([]string{s.group}, len(chunk))), database.Texts(chunk))
		_, err := in.ExecContext(ctx, `WITH asked (consumer, id) AS (`+asked+`) DELETE FROM parked WHERE (consumer, id) IN (SELECT consumer, id FROM asked)`, args...)
		if err != nil {
			return fmt.Errorf("remove %d parked messages: %w", len(chunk), database.Classify(err))
		}
	}
	return nil
}

// Block notes that a parked message has its dead letter, and that its key waits for that. If it was let go in the meantime
// it is no longer there, and nothing is blocked.
func (s *Store) Block(ctx context.Context, r kafka.Record) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	result, err := s.db.ExecContext(ctx, `UPDATE parked SET blocked_at = $1 WHERE consumer = $2 AND id = $3`, s.now().UTC(), s.group, id(r))
	if err != nil {
		return fmt.Errorf("block the key of %s: %w", id(r), database.Classify(err))
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return database.Classify(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[string(r.Key)] = true
	s.any.Store(true)
	return nil
}

// query gives each row to row.
func (s *Store) query(ctx context.Context, what, query string, row func(database.Scanner) error, args ...any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", what, database.Classify(err))
		}
	}()
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Headers are bytes, which not every text of a database can hold.
func encodeHeaders(headers map[string]string) ([]byte, error) {
	pairs := make([][2][]byte, 0, len(headers))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		pairs = append(pairs, [2][]byte{[]byte(name), []byte(headers[name])})
	}
	return json.Marshal(pairs)
}

func decodeHeaders(text []byte) (map[string]string, error) {
	var pairs [][2][]byte
	if err := json.Unmarshal(text, &pairs); err != nil {
		return nil, fmt.Errorf("headers of a parked message: %w", err)
	}
	headers := make(map[string]string, len(pairs))
	for _, p := range pairs {
		headers[string(p[0])] = string(p[1])
	}
	return headers, nil
}
