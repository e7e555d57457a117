package kafka

import (
	"context"
	"time"

	"github.com/orderflow/orderflow/pkg/failpoint"
)

// Parking is where a subscriber puts messages that have to wait, so that they take no memory and hold back no offset;
// package parking has one. What is parked of a partition is the business of the member that has the partition: nobody
// else adds, hands out or removes, but for letting a blocked message go.
type Parking interface {
	// Load returns the keys of a partition that have messages parked.
	Load(ctx context.Context, topic string, partition int32) ([]ParkedKey, error)
	// Park adds messages. Of one that is there already, the higher number of attempts and its instant stay.
	Park(ctx context.Context, messages ...Parked) error
	// First returns the first messages of a key in the log's order: one if there is any, and some more if they are small.
	First(ctx context.Context, topic string, partition int32, key string) ([]Parked, error)
	// Remove takes out messages of a partition. One that is not there is fine.
	Remove(ctx context.Context, topic string, partition int32, offsets ...int64) error
	// Held tells whether messages of a key must wait, whatever their partition, because one of them is blocked. It is asked
	// for each message and answers from memory.
	Held(topic, key string) bool
}

// Parked is a message that waits.
type Parked struct {
	Record
	// Attempts is how often it was tried.
	Attempts int
	// Due is when it may be tried again.
	Due time.Time
	// Blocked is set when it was given up: it is not tried again, and its key waits until it is let go.
	Blocked bool
}

// ParkedKey says of one key of a partition how many messages it has parked, and the last one's offset.
type ParkedKey struct {
	Key      string
	Messages int
	Last     int64
}

// Delivery is one handing out of a message by a subscriber with a Parking. All methods may be called on nil, which is
// the delivery of a message that cannot be parked.
type Delivery struct {
	context.Context
	claim    *claim
	attempts int
	// kept is set when the message stands in the Parking already.
	kept bool
	// pressed is closed when others want the message's place in memory. Under the claim's mu.
	pressed chan struct{}

	// What the handler's side says before it acknowledges: park with these attempts and this instant, or blocked.
	parked, blocked bool
	tried           int
	due             time.Time
}

type deliveryKey struct{}

// Value implements context.Context.
func (d *Delivery) Value(key any) any {
	if key == (deliveryKey{}) {
		return d
	}
	return d.Context.Value(key)
}

// DeliveryOf returns the delivery to which a message's context belongs, or nil.
func DeliveryOf(ctx context.Context) *Delivery {
	d, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return d
}

// Attempts is how often the message was tried before it was parked.
func (d *Delivery) Attempts() int {
	if d == nil {
		return 0
	}
	return d.attempts
}

// Stopping is closed when the message's partition is being given up.
func (d *Delivery) Stopping() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.claim.stop
}

// Wait waits before the next attempt at a message that was tried so many times. It returns true when the message is to be
// acknowledged instead: it is parked, with those behind it, and comes again after the wait. That is so when the wait is
// long, and as soon as others want the message's place. When the partition is given up, Wait returns an error.
func (d *Delivery) Wait(ctx context.Context, wait time.Duration, attempts int) (parked bool, err error) {
	var pressed chan struct{}
	due := failpoint.Now().Add(wait)
	if d != nil && (d.kept || d.claim.offer(d, wait)) {
		return d.park(due, attempts), nil
	} else if d != nil {
		pressed = d.pressed
		defer d.claim.withdraw(d)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-pressed:
		return d.park(due, attempts), nil
	case <-d.Stopping():
		return false, context.Canceled
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (d *Delivery) park(due time.Time, attempts int) bool {
	d.parked, d.due, d.tried = true, due, attempts
	return true
}

// Room tells whether the Parking has room for one more message of the partition.
func (d *Delivery) Room() bool {
	if d == nil {
		return true
	}
	d.claim.mu.Lock()
	defer d.claim.mu.Unlock()
	return d.kept || !d.claim.parks.full()
}

// AwaitRoom waits until the Parking has room for one more message of the partition. It fails when ctx ends, or the partition is
// given up.
func (d *Delivery) AwaitRoom(ctx context.Context) error {
	if d == nil {
		return nil
	}
	d.claim.ask(1)
	defer d.claim.ask(-1)
	ticker := time.NewTicker(heldEvery)
	defer ticker.Stop()
	for !d.Room() {
		select {
		case <-ticker.C:
		case <-d.Stopping():
			return context.Canceled
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Block says that the message, which is going to be acknowledged, stands in the Parking as blocked.
func (d *Delivery) Block() {
	if d != nil {
		d.blocked = true
	}
}
