package parking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// ErrNotFound: no message of this id is parked.
var ErrNotFound = errors.New("no such parked message")

// State is what a key waits for.
type State string

// The states of a key.
const (
	// Blocked waits until a dead letter was handled or is discarded.
	Blocked State = "blocked"
	// Retrying has a first message that failed and is tried again.
	Retrying State = "retrying"
	// Queued has a first message that was not tried yet: it is behind one in hand, or next.
	Queued State = "queued"
)

// Key is a key of one partition that has messages parked.
type Key struct {
	Group, Topic string
	Partition    int32
	Key          []byte
	// Messages is how many wait, one that blocks among them; Bytes what their values have together.
	Messages int
	Bytes    int64
	// First is the id of the first of them, topic-partition-offset; Since when it was parked, Attempts how often it was
	// tried, and Due when it is tried again, if Retrying.
	First    string
	Since    time.Time
	Attempts int
	Due      time.Time
	// Letter is the dead letter that the key waits for, if Blocked: the first, if there are several.
	Letter string
}

// State is what the key waits for.
func (k Key) State() State {
	switch {
	case k.Letter != "":
		return Blocked
	case k.Attempts > 0:
		return Retrying
	}
	return Queued
}

// Message is one that waits.
type Message struct {
	ID, EventID, EventType string
	Bytes                  int64
	// Sent is the record's timestamp, Since when it was parked.
	Sent, Since time.Time
	Attempts    int
	Blocks      bool
}

// Filter selects keys; zero fields select all.
type Filter struct {
	Group, Topic, Key string
	State             State
	// at is exactly the key of this record.
	at *kafka.Record
}

// Position is a place in the order of Keys.
type Position struct {
	Since time.Time `json:"at"`
	First string    `json:"id"`
}

// Keys returns at most limit keys behind a position, those that wait longest first. It reads all that is parked.
func (s *Store) Keys(ctx context.Context, f Filter, after Position, limit int) (keys []Key, err error) {
	if f.Group != "" && f.Group != s.group {
		return nil, nil
	}
	// SQLite numbers arguments in the order of the text.
	args := []any{s.group}
	arg := func(value any) int {
		args = append(args, value)
		return len(args)
	}
	among, held := "", ""
	if f.Topic != "" {
		among += fmt.Sprintf(` AND topic = $%d`, arg(f.Topic))
	}
	if f.Key != "" {
		among += fmt.Sprintf(` AND record_key = $%d`, arg([]byte(f.Key)))
	}
	if f.at != nil {
		among += fmt.Sprintf(` AND topic = $%d AND record_partition = $%d AND record_key = $%d`, arg(f.at.Topic), arg(f.at.Partition), arg(f.at.Key))
	}
	for _, topic := range s.free {
		held += fmt.Sprintf(` AND f.topic <> $%d`, arg(topic))
	}
	where := map[State]string{
		"": `TRUE`, Blocked: `letter <> ''`, Retrying: `letter = '' AND attempts > 0`, Queued: `letter = '' AND attempts = 0`,
	}[f.State]
	if after.First != "" {
		where += fmt.Sprintf(` AND parked_at >= $%d AND (parked_at > $%d OR id > $%d)`, arg(after.Since.UTC()), arg(after.Since.UTC()), arg(after.First))
	}
	return keys, s.query(ctx, "list parked keys", fmt.Sprintf(`WITH counted AS (
			SELECT consumer, topic, record_partition, record_key, MIN(record_offset) AS first, COUNT(*) AS messages, SUM(COALESCE(LENGTH(record_value), 0)) AS bytes
			FROM parked WHERE consumer = $1%s GROUP BY consumer, topic, record_partition, record_key),
		keys AS (
			SELECT f.topic, f.record_partition, f.record_key, messages, bytes, f.id, f.parked_at, f.attempts, f.due_at,
				COALESCE((SELECT b.id FROM parked AS b WHERE b.consumer = f.consumer AND b.record_key = f.record_key AND b.blocked_at IS NOT NULL%s
					ORDER BY b.blocked_at, b.id LIMIT 1), '') AS letter
			FROM counted JOIN parked AS f ON f.consumer = counted.consumer AND f.topic = counted.topic AND f.record_partition = counted.record_partition
				AND f.record_key = counted.record_key AND f.record_offset = counted.first)
		SELECT topic, record_partition, record_key, messages, bytes, id, parked_at, attempts, due_at, letter
		FROM keys WHERE %s ORDER BY parked_at, id LIMIT $%d`, among, held, where, arg(limit)),
		func(row database.Scanner) error {
			k := Key{Group: s.group}
			err := row.Scan(&k.Topic, &k.Partition, &k.Key, &k.Messages, &k.Bytes, &k.First, &k.Since, &k.Attempts, &k.Due, &k.Letter)
			k.Key, k.Since, k.Due = notNull(k.Key), k.Since.UTC(), k.Due.UTC()
			keys = append(keys, k)
			return err
		}, args...)
}

// notNull is a column that is not null: SQLite's driver makes no difference of that and empty.
func notNull(b []byte) []byte { return append([]byte{}, b...) }

// maxMessages is how many messages of a key are shown with it.
const maxMessages = 50

// Key returns the key of a parked message with its first messages, in their order, or ErrNotFound.
func (s *Store) Key(ctx context.Context, id string) (Key, []Message, error) {
	var at *kafka.Record
	err := s.query(ctx, "find a parked message", `SELECT topic, record_partition, record_key FROM parked WHERE consumer = $1 AND id = $2`,
		func(row database.Scanner) error {
			at = &kafka.Record{}
			err := row.Scan(&at.Topic, &at.Partition, &at.Key)
			at.Key = notNull(at.Key)
			return err
		}, s.group, id)
	if err != nil {
		return Key{}, nil, err
	}
	if at == nil {
		return Key{}, nil, ErrNotFound
	}
	keys, err := s.Keys(ctx, Filter{at: at}, Position{}, 1)
	if err != nil {
		return Key{}, nil, err
	}
	if len(keys) == 0 {
		return Key{}, nil, ErrNotFound // it has gone on meanwhile
	}
	messages, err := s.messages(ctx, keys[0])
	return keys[0], messages, err
}

func (s *Store) messages(ctx context.Context, k Key) (all []Message, err error) {
	return all, s.query(ctx, "read a key's parked messages", `SELECT id, headers, COALESCE(LENGTH(record_value), 0), record_time, parked_at, attempts, blocked_at IS NOT NULL
		FROM parked WHERE consumer = $1 AND topic = $2 AND record_partition = $3 AND record_key = $4 ORDER BY record_offset LIMIT $5`,
		func(row database.Scanner) error {
			var m Message
			var text []byte
			if err := row.Scan(&m.ID, &text, &m.Bytes, &m.Sent, &m.Since, &m.Attempts, &m.Blocks); err != nil {
				return err
			}
			headers, err := decodeHeaders(text)
			m.EventID, m.EventType, m.Sent, m.Since = headers[event.HeaderID], headers[event.HeaderType], m.Sent.UTC(), m.Since.UTC()
			all = append(all, m)
			return err
		}, k.Group, k.Topic, k.Partition, k.Key, maxMessages)
}

// Waiting tells which of these keys have messages parked, in any partition of the group.
func (s *Store) Waiting(ctx context.Context, keys ...string) (map[string]bool, error) {
	waiting := map[string]bool{}
	for chunk := range slices.Chunk(keys, s.db.Dialect().Batch()) {
		blobs := make([][]byte, len(chunk))
		for i, key := range chunk {
			blobs[i] = []byte(key)
		}
		among, args := s.db.Dialect().Columns(database.Blobs(blobs))
		err := s.query(ctx, "read which keys wait", fmt.Sprintf(`SELECT DISTINCT record_key FROM parked WHERE record_key IN (%s) AND consumer = $%d`, among, len(args)+1),
			func(row database.Scanner) error {
				var key []byte
				err := row.Scan(&key)
				waiting[string(key)] = true
				return err
			}, append(args, s.group)...)
		if err != nil {
			return nil, err
		}
	}
	return waiting, nil
}
