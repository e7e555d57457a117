package failpoint

// Point is a place on a message's way.
type Point string

// The points. The package's documentation says where each is.
const (
	ConsumerBeforeCommit Point = "consumer-before-commit"
	ConsumerAfterCommit  Point = "consumer-after-commit"
	CallAnswered         Point = "call-answered"
	LetterSent           Point = "letter-sent"
	OffsetBeforeCommit   Point = "offset-before-commit"
	RelayBeforeSend      Point = "relay-before-send"
	RelayAfterSend       Point = "relay-after-send"
	FeedAppended         Point = "feed-appended"
	RequestBeforeCommit  Point = "request-before-commit"
	RequestAfterCommit   Point = "request-after-commit"
	TimerBeforeCommit    Point = "timer-before-commit"
)

// EnvDir is the variable with the folder that a process is told by, EnvInstance that with its name there.
const (
	EnvDir      = "FAILPOINTS_DIR"
	EnvInstance = "INSTANCE_ID"
)
