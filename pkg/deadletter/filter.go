package deadletter

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// Filter selects letters; zero fields select all. It is kept with a job as JSON.
type Filter struct {
	// State is one, or Open.
	State State  `json:"state,omitempty"`
	Group string `json:"group,omitempty"`
	// Topic and EventType are the original record's.
	Topic     string `json:"topic,omitempty"`
	EventType string `json:"event_type,omitempty"`
	ErrorType string `json:"error_type,omitempty"`
	// Cause is exactly that of Letter.Cause.
	Cause string `json:"cause,omitempty"`
	// Key is exactly the record's.
	Key string `json:"key,omitempty"`
	// Text stands somewhere in the error's message, in small letters or capitals. Bodies are not searched.
	Text string `json:"text,omitempty"`
	// Since and Until bound the last failure; Until is not part of it.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// Bounds, in runes, of what stands in an index.
const (
	maxCause   = 200
	maxKeyText = 200
)

// particular is what differs from one message to the next: what is quoted, and words with a digit.
var particular = regexp.MustCompile(`"[^"]*"|[\pL\pN_.-]*\pN[\pL\pN_.-]*`)

// Cause is an error without what differs from one message to the next, by which letters are grouped: "order # has no
// line #".
func Cause(message string) string {
	return clip(particular.ReplaceAllString(strings.Join(strings.Fields(printable(message)), " "), "#"), maxCause)
}

func clip(s string, most int) string {
	n := 0
	for i := range s {
		if n == most {
			return s[:i]
		}
		n++
	}
	return s
}

// conditions collects a WHERE and its arguments, which are numbered in the order in which they come.
type conditions struct {
	all  []string
	args []any
}

// add takes a condition with %d in the place of each value's number.
func (c *conditions) add(condition string, values ...any) {
	numbers := make([]any, len(values))
	for i, v := range values {
		c.args = append(c.args, v)
		numbers[i] = len(c.args)
	}
	c.all = append(c.all, fmt.Sprintf(condition, numbers...))
}

func (c *conditions) where() string {
	if len(c.all) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.all, " AND ")
}

func (f Filter) conditions(c *conditions) {
	switch f.State {
	case "":
	case Open:
		c.add(open)
	default:
		c.add(`state = $%d`, string(f.State))
	}
	for _, equal := range []struct{ column, value string }{
		{"consumer_group", f.Group}, {"original_topic", f.Topic}, {"event_type", f.EventType}, {"error_type", f.ErrorType}, {"cause", f.Cause},
	} {
		if equal.value != "" {
			c.add(equal.column+` = $%d`, equal.value)
		}
	}
	if f.Key != "" {
		c.add(`key_text IN ($%d, '') AND record_key = $%d`, keyText([]byte(f.Key)), []byte(f.Key))
	}
	if f.Text != "" {
		c.add(`LOWER(error_message) LIKE LOWER($%d) ESCAPE '\'`, "%"+escapeLike.Replace(f.Text)+"%")
	}
	if !f.Since.IsZero() {
		c.add(`failed_at >= $%d`, f.Since.UTC())
	}
	if !f.Until.IsZero() {
		c.add(`failed_at < $%d`, f.Until.UTC())
	}
}

// open is the condition of what waits for an operator: waiting and failed_again, in the words of the index that is for it.
const open = `settled_at IS NULL AND state <> 'redriving'`

var escapeLike = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

func keyText(key []byte) string { return clip(printable(string(key)), maxKeyText) }

// Position is a place in List's order.
type Position struct {
	FailedAt time.Time `json:"at"`
	ID       string    `json:"id"`
}

// List returns at most limit letters behind a position, the last failed first, without their headers and values.
func (s *Store) List(ctx context.Context, f Filter, after Position, limit int) ([]Letter, error) {
	return s.letters(ctx, f.behind(after), lastFirst, limit)
}

// lastFirst is List's order.
const lastFirst = `failed_at DESC, id`

func (f Filter) behind(after Position) (c conditions) {
	f.conditions(&c)
	if after.ID != "" {
		// The first half alone is what an index can begin with.
		c.add(`failed_at <= $%d AND (failed_at < $%d OR id > $%d)`, after.FailedAt.UTC(), after.FailedAt.UTC(), after.ID)
	}
	return c
}

// query reads letters without what may be large.
func (c conditions) query(order string, limit int) (text string, args []any) {
	return fmt.Sprintf(`SELECT %s FROM dead_letters%s ORDER BY %s LIMIT $%d`, listed, c.where(), order, len(c.args)+1), append(c.args, limit)
}

func (s *Store) letters(ctx context.Context, c conditions, order string, limit int) ([]Letter, error) {
	query, args := c.query(order, limit)
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", database.Classify(err))
	}
	defer rows.Close()
	var letters []Letter
	for rows.Next() {
		l, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		letters = append(letters, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list dead letters: %w", database.Classify(err))
	}
	return letters, nil
}

// CauseCount is a cause and the letters that have it.
type CauseCount struct {
	Group, Topic, EventType, ErrorType, Cause string
	// Letters is how many there are, Open how many of them wait for an operator.
	Letters, Open int
	// First and Last are the times of failure between which they lie; Example is one of their ids.
	First, Last time.Time
	Example     string
}

// Causes groups the letters by cause, the most frequent first, and returns at most limit groups.
func (s *Store) Causes(ctx context.Context, f Filter, limit int) ([]CauseCount, error) {
	var c conditions
	f.conditions(&c)
	return s.causes(ctx, c, limit)
}

func (s *Store) causes(ctx context.Context, c conditions, limit int) ([]CauseCount, error) {
	rows, err := s.db.QueryContext(ctx, fmt.Sprintf(`SELECT consumer_group, original_topic, event_type, error_type, cause,
		COUNT(*), SUM(CASE WHEN %s THEN 1 ELSE 0 END), MIN(failed_at), MAX(failed_at), MIN(id)
		FROM dead_letters%s GROUP BY consumer_group, original_topic, event_type, error_type, cause
		ORDER BY COUNT(*) DESC, cause, original_topic, event_type, error_type, consumer_group LIMIT $%d`,
		open, c.where(), len(c.args)+1), append(c.args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("count causes: %w", database.Classify(err))
	}
	defer rows.Close()
	var causes []CauseCount
	for rows.Next() {
		var n CauseCount
		err := rows.Scan(&n.Group, &n.Topic, &n.EventType, &n.ErrorType, &n.Cause, &n.Letters, &n.Open, instant{&n.First}, instant{&n.Last}, &n.Example)
		if err != nil {
			return nil, fmt.Errorf("count causes: %w", err)
		}
		causes = append(causes, n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count causes: %w", database.Classify(err))
	}
	return causes, nil
}
