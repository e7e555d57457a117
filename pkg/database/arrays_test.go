package database

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

// What a column is on the wire is what pgx would have made of it.
func TestArraysAreWhatTheyWere(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 8, 0, 0, 123_456_789, time.FixedZone("", 3600))
	early := time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	ours, theirs := pgtype.NewMap(), pgtype.NewMap()
	registerArrays(ours)
	for oid, values := range map[uint32][]any{
		pgtype.TextArrayOID:        {[]string(nil), []string{}, []string{"", "a", "ä\n\"{}\\", string(make([]byte, 70_000))}, []*string{nil}},
		pgtype.ByteaArrayOID:       {[][]byte(nil), [][]byte{nil}, [][]byte{{}, {0, 255}, nil, make([]byte, 70_000)}},
		pgtype.Int8ArrayOID:        {[]int64(nil), []int64{}, []int64{0, -1, 1 << 62, -1 << 63}},
		pgtype.TimestamptzArrayOID: {[]time.Time(nil), []time.Time{at, early, {}}, []*time.Time{nil, &at}, []*time.Time{&early}},
	} {
		for _, value := range values {
			before := []byte("before")
			want, err := theirs.Encode(oid, pgtype.BinaryFormatCode, value, before)
			require.NoError(t, err)
			got, err := ours.Encode(oid, pgtype.BinaryFormatCode, value, before)
			require.NoError(t, err)
			require.Equal(t, want, got, "%d: %T of %d bytes", oid, value, len(want))
			require.Equal(t, theirs.FormatCodeForOID(oid), ours.FormatCodeForOID(oid))
		}
	}
}
