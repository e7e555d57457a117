package kafka

import (
	"fmt"

	"github.com/IBM/sarama"
)

// Guarantee is what happens to a message when something fails. It is chosen in code, by whoever knows what the messages
// are worth, and not where a process is deployed. docs/DELIVERY.md says what each loses and doubles under which fault.
type Guarantee int

const (
	// EffectivelyOnce is for messages that must neither be lost nor take effect twice. It is the zero value, because
	// losing or doubling should be somebody's decision. A publisher is idempotent: what it sends again by itself is in
	// the log once. A consumer needs an inbox for it (package consumer has one).
	EffectivelyOnce Guarantee = iota
	// AtLeastOnce is for messages that must not be lost and whose effect may come twice, because it replaces ("the price
	// is now 5") rather than adds. It saves the inbox, and for a publisher the right to write idempotently.
	AtLeastOnce
	// AtMostOnce is for messages that are worthless when they are late, a measurement each second, say. Nothing is sent,
	// handed out or tried a second time.
	AtMostOnce
)

// String is the guarantee's name.
func (g Guarantee) String() string {
	switch g {
	case EffectivelyOnce:
		return "effectively-once"
	case AtLeastOnce:
		return "at-least-once"
	case AtMostOnce:
		return "at-most-once"
	default:
		return fmt.Sprintf("Guarantee(%d)", int(g))
	}
}

// Validate returns an error unless g is one of the three.
func (g Guarantee) Validate() error {
	if g < EffectivelyOnce || g > AtMostOnce {
		return fmt.Errorf("guarantee is %d, must be EffectivelyOnce, AtLeastOnce or AtMostOnce", int(g))
	}
	return nil
}

// producer sets in s, which is Config.Sarama's, what differs for g.
func (g Guarantee) producer(s *sarama.Config) {
	switch g {
	case EffectivelyOnce:
	case AtLeastOnce:
		s.Producer.Idempotent = false
	case AtMostOnce:
		s.Producer.Idempotent = false
		s.Producer.Retry.Max = 0
		// The leader is waited for: without any answer a broker that is away would be a success.
		s.Producer.RequiredAcks = sarama.WaitForLocal
	}
}
