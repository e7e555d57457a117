package deadletter

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// some is how many letters are written one by one; the others are copies.
const some = 1000

// Preview and begin of a job over b.N letters, at least a thousand, of a thousand keys.
func BenchmarkBegin(b *testing.B) {
	databasetest.EachBench(b, func(b *testing.B, url string) {
		s := NewStore(databasetest.Open(b, url, map[string]fs.FS{"dead_letters": Migrations}), nil, time.Now)
		fill(b, s, b.N)
		r := JobRequest{Verb: VerbRedrive, By: By{Actor: "ada", Reason: "fixed"}, Max: MaxSelection}
		began := time.Now()
		p, err := s.Preview(b.Context(), r)
		require.NoError(b, err)
		require.Equal(b, max(b.N, some), p.Total)
		previewed := time.Now()
		j, err := s.Begin(b.Context(), r)
		require.NoError(b, err)
		require.Equal(b, p.Total, j.Total)
		b.ReportMetric(previewed.Sub(began).Seconds(), "preview-s")
		b.ReportMetric(time.Since(previewed).Seconds(), "begin-s")
		b.ReportMetric(0, "ns/op")
	})
}

// fill writes n letters.
func fill(b *testing.B, s *Store, n int) {
	require.NoError(b, s.db.InTx(b.Context(), func(ctx context.Context, tx *database.Tx) error {
		for i := range some {
			l := FromRecord(New(kafka.Record{
				Topic: "t", Offset: int64(i), Key: fmt.Append(nil, "key", i), Value: []byte(strings.Repeat("x", 500)), Timestamp: time.Now(),
			}, Failure{Group: "g", ErrorType: Permanent, Err: fmt.Errorf("order %d has no line", i), At: time.Now()}), "g")
			if err := s.Record(ctx, tx, l); err != nil {
				return err
			}
		}
		return nil
	}))
	const place = `'"original-offset":"' || `
	copied := strings.NewReplacer(
		"id, consumer_group", "'t-0-' || (original_offset + $1), consumer_group", "original_offset,", "original_offset + $1,",
		"headers,", "REPLACE(headers, "+place+"original_offset || '\"', "+place+"(original_offset + $1) || '\"'),",
	).Replace(columns)
	for have := some; have < n; have *= 2 {
		_, err := s.db.ExecContext(b.Context(), `INSERT INTO dead_letters (`+columns+`, key_text) SELECT `+copied+`, key_text
			FROM dead_letters WHERE original_offset < $2`, have, n-have)
		require.NoError(b, err)
	}
}
