// Package loopback finds ports of 127.0.0.1 for programs that are started on this machine.
package loopback

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Free ports are taken from below the range that systems give to outgoing connections (Linux: from 32768), or a
// connection of somebody else could sit on a service's port when it comes back after a kill.
const firstFree, lastFree = 20000, 32000

// PortTaken is a port that something else listens on.
type PortTaken struct {
	Port int
	// For is who was to have it: a service's name, "kafka" or "redis".
	For string
}

// Error names the port and who was to have it.
func (e *PortTaken) Error() string {
	return fmt.Sprintf("port %d (%s) is taken by another process", e.Port, e.For)
}

// Check returns nil if name can have the port, which 0 leaves open.
func Check(port int, name string) error {
	switch {
	case port == 0:
		return nil
	case port < 0 || port > 65535:
		return fmt.Errorf("port %d (%s) must be from 1 to 65535", port, name)
	case !free(port):
		return &PortTaken{Port: port, For: name}
	}
	return nil
}

// Ports returns n different free ports.
func Ports(n int) ([]int, error) {
	var ports []int
	for port := firstFree + rand.IntN((lastFree-firstFree)/2); len(ports) < n; port++ {
		if port > lastFree {
			return nil, fmt.Errorf("no %d free ports below %d", n, lastFree)
		}
		if free(port) {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

// Address is 127.0.0.1 with the port.
func Address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// free tries both the loopback address and the wildcard: a listener on all interfaces does not keep everybody from
// binding 127.0.0.1, but its port is somebody's.
func free(port int) bool {
	var config net.ListenConfig
	for _, host := range []string{"127.0.0.1", ""} {
		l, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		if err := l.Close(); err != nil {
			return false
		}
	}
	return true
}
