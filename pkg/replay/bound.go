package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// Bound is where a replay begins, or ends without it, in each partition.
type Bound struct {
	kind    kind
	at      time.Time
	offset  int64
	offsets map[int32]int64
}

type kind int

const (
	unset kind = iota // the end of the partition
	byAge             // its oldest record
	byTime
	byOffset
	byPartition
)

// Oldest is the word for the beginning of what the topic still has.
const Oldest = "oldest"

// ParseBound reads a time (RFC 3339), a duration back from now ("-2h"), an offset for every partition, offsets by
// partition ("0:1200,3:40"), or Oldest. Empty text is the end.
func ParseBound(text string, now time.Time) (Bound, error) {
	switch text {
	case "":
		return Bound{}, nil
	case Oldest:
		return Bound{kind: byAge}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return Bound{kind: byOffset, offset: n}, nil
	}
	b := Bound{kind: byTime}
	if d, err := time.ParseDuration(text); err == nil && d < 0 {
		b.at = now.Add(d)
		return b, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		if at.After(now) {
			return b, fmt.Errorf("%s is in the future", text)
		}
		b.at = at
		return b, nil
	}
	if offsets, err := parseOffsets(text); err == nil {
		return Bound{kind: byPartition, offsets: offsets}, nil
	}
	return b, fmt.Errorf("%q must be a time (2026-11-21T12:00:00Z), how long ago (-2h), an offset (1200) or offsets by partition (0:1200,3:40), or %q", text, Oldest)
}

func parseOffsets(text string) (map[int32]int64, error) {
	offsets := map[int32]int64{}
	for _, part := range strings.Split(text, ",") {
		left, right, _ := strings.Cut(part, ":")
		p, err := strconv.ParseUint(left, 10, 31)
		offset, offsetErr := strconv.ParseUint(right, 10, 63)
		if err := errors.Join(err, offsetErr); err != nil {
			return nil, err
		}
		if _, twice := offsets[int32(p)]; twice {
			return nil, fmt.Errorf("partition %d is given twice", p)
		}
		offsets[int32(p)] = int64(offset)
	}
	return offsets, nil
}

// resolve finds the bound's offset in each partition that it speaks of.
func (b Bound) resolve(ctx context.Context, admin *kafka.Admin, topic string, ranges map[int32]kafka.Range) (map[int32]int64, error) {
	found := map[int32]int64{}
	var times map[int32]int64
	if b.kind == byTime {
		var err error
		if times, err = admin.OffsetsAt(ctx, topic, b.at); err != nil {
			return nil, err
		}
	}
	var errs []error
	for p, offset := range b.offsets {
		if _, is := ranges[p]; !is {
			errs = append(errs, fmt.Errorf("%s has no partition %d, it has 0 to %d", topic, p, len(ranges)-1))
			continue
		}
		found[p] = offset
	}
	for p, r := range ranges {
		switch b.kind {
		case unset:
			found[p] = r.End
		case byAge:
			found[p] = r.Start
		case byTime:
			found[p] = r.End
			if at := times[p]; at >= 0 {
				found[p] = min(max(at, r.Start), r.End)
			}
		case byOffset:
			found[p] = b.offset
		}
	}
	for _, p := range slices.Sorted(maps.Keys(found)) {
		if r := ranges[p]; found[p] < r.Start || found[p] > r.End {
			errs = append(errs, fmt.Errorf("offset %d is out of range: partition %d of %s allows %d to %d", found[p], p, topic, r.Start, r.End))
		}
	}
	return found, errors.Join(errs...)
}

// stretch is what lies between two bounds, by partition. Where one bound names partitions, only those are meant.
func stretch(ctx context.Context, admin *kafka.Admin, topic string, from, to Bound) (map[int32]kafka.Range, error) {
	if from.kind == byTime && to.kind == byTime && !from.at.Before(to.at) {
		return nil, fmt.Errorf("it begins at %s and ends at %s: the end must be later", from.at.Format(time.RFC3339), to.at.Format(time.RFC3339))
	}
	ranges, err := admin.Ranges(ctx, topic)
	if err != nil {
		return nil, err
	}
	starts, err := from.resolve(ctx, admin, topic, ranges)
	if err != nil {
		return nil, fmt.Errorf("the beginning: %w", err)
	}
	ends, err := to.resolve(ctx, admin, topic, ranges)
	if err != nil {
		return nil, fmt.Errorf("the end: %w", err)
	}
	if from.kind == byPartition && to.kind == byPartition && !slices.Equal(slices.Sorted(maps.Keys(starts)), slices.Sorted(maps.Keys(ends))) {
		return nil, errors.New("the beginning and the end name different partitions")
	}
	found := map[int32]kafka.Range{}
	var errs []error
	for p, start := range starts {
		end, is := ends[p]
		switch {
		case !is:
		case start <= end:
			found[p] = kafka.Range{Start: start, End: end}
		case from.kind == byTime || to.kind == byTime: // there is nothing between them here
			found[p] = kafka.Range{Start: end, End: end}
		default:
			errs = append(errs, fmt.Errorf("partition %d begins at offset %d and ends at %d: the end must not be lower", p, start, end))
		}
	}
	return found, errors.Join(errs...)
}
