package database

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// registerArrays has the columns of Columns and In encoded at once. pgx goes by each element: it looks up how that is
// encoded, and lets what it writes into grow step by step, which was a third of all that a service allocated under load.
func registerArrays(m *pgtype.Map) {
	register(m, pgtype.TextArrayOID, pgtype.TextOID, func(s string) int { return len(s) }, func(to []byte, s string) []byte { return append(to, s...) })
	register(m, pgtype.ByteaArrayOID, pgtype.ByteaOID, func(b []byte) int {
		if b == nil {
			return null
		}
		return len(b)
	}, func(to, b []byte) []byte { return append(to, b...) })
	register(m, pgtype.Int8ArrayOID, pgtype.Int8OID, func(int64) int { return 8 }, appendInt)
	register(m, pgtype.TimestamptzArrayOID, pgtype.TimestamptzOID, func(time.Time) int { return 8 }, appendTime)
	register(m, pgtype.TimestamptzArrayOID, pgtype.TimestamptzOID, func(t *time.Time) int {
		if t == nil {
			return null
		}
		return 8
	}, func(to []byte, t *time.Time) []byte { return appendTime(to, *t) })
}

// null is the size of what is NULL.
const null = -1

func appendInt(to []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(to, uint64(n))
}

// appendTime writes microseconds since the year 2000, which is PostgreSQL's way.
func appendTime(to []byte, t time.Time) []byte {
	const epoch = 946_684_800
	return appendInt(to, (t.Unix()-epoch)*1_000_000+int64(t.Nanosecond())/1_000)
}

// register adds a codec for slices of T before the one that m has for arrays of that type.
func register[T any](m *pgtype.Map, array, element uint32, size func(T) int, put func([]byte, T) []byte) {
	if known, ok := m.TypeForOID(array); ok {
		m.RegisterType(&pgtype.Type{Name: known.Name, OID: array, Codec: arrayCodec[T]{known.Codec, element, size, put}})
	}
}

// arrayCodec encodes a slice of T.
type arrayCodec[T any] struct {
	pgtype.Codec // for all else
	element      uint32
	size         func(T) int
	put          func([]byte, T) []byte
}

// PlanEncode implements pgtype.Codec.
func (c arrayCodec[T]) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, is := value.([]T); is && format == pgtype.BinaryFormatCode {
		return c
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

// Encode implements pgtype.EncodePlan: dimensions, whether there is a NULL, the elements' type, how many there are, the number
// of the first; and each with its size.
func (c arrayCodec[T]) Encode(value any, buf []byte) ([]byte, error) {
	all, _ := value.([]T)
	if all == nil {
		return nil, nil
	}
	total, nulls := 20+4*len(all), uint32(0)
	for _, v := range all {
		n := c.size(v)
		total += max(n, 0)
		if n == null {
			nulls = 1
		}
	}
	if cap(buf)-len(buf) < total {
		buf = slices.Grow(buf, total+total/4) // and room for the columns behind, which are smaller as a rule
	}
	for _, n := range []uint32{1, nulls, c.element, uint32(len(all)), 1} {
		buf = binary.BigEndian.AppendUint32(buf, n)
	}
	for _, v := range all {
		n := c.size(v)
		if n == null {
			buf = binary.BigEndian.AppendUint32(buf, math.MaxUint32)
			continue
		}
		buf = c.put(binary.BigEndian.AppendUint32(buf, uint32(n)), v)
	}
	return buf, nil
}
