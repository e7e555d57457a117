package kafka

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// classify marks what the cluster or the client said of one record or call.
//
// An unknown topic is Transient: topics are created beside the services that use them, and a record is not worth less
// because its topic comes a moment later.
func classify(operation string, err error) error {
	if err == nil {
		return nil
	}
	wrapped := fmt.Errorf("%s: %w", operation, err)
	var configuration sarama.ConfigurationError
	var code sarama.KError
	switch {
	// The client refuses a record over its own limit with a ConfigurationError.
	case errors.As(err, &configuration), errors.Is(err, sarama.ErrMessageTooLarge):
		return fault.AsPermanent(wrapped)
	case !errors.As(err, &code):
		// Not an answer of the cluster: it could not be reached, or was not given time to answer.
		return fault.AsUnavailable(wrapped)
	}
	switch code {
	case sarama.ErrMessageSizeTooLarge, sarama.ErrInvalidRecord, sarama.ErrInvalidTopic, sarama.ErrInvalidMessage,
		sarama.ErrInvalidTimestamp, sarama.ErrUnsupportedForMessageFormat:
		return fault.AsPermanent(wrapped)
	case sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrRequestTimedOut,
		sarama.ErrBrokerNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrNetworkException,
		sarama.ErrNotEnoughReplicas, sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrKafkaStorageError,
		sarama.ErrNotController, sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrNotCoordinatorForConsumer:
		return fault.AsUnavailable(wrapped)
	default:
		return fault.AsTransient(wrapped)
	}
}
