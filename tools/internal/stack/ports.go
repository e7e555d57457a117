package stack

import (
	"context"
	"errors"
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

// ports chooses the services' ports and checks all that are asked for, so that one run names every one that is taken.
func (o Options) ports() (map[string]int, error) {
	ports := map[string]int{}
	var errs []error
	check := func(port int, name string) {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("port %d (%s) must be from 1 to 65535", port, name))
		} else if !free(port) {
			errs = append(errs, &PortTaken{Port: port, For: name})
		}
	}
	next := firstFree + rand.IntN((lastFree-firstFree)/2)
	for i, name := range o.Services {
		if o.BasePort != 0 {
			ports[name] = o.BasePort + i
			check(ports[name], name)
			continue
		}
		for next++; !free(next); next++ {
			if next > lastFree {
				return nil, fmt.Errorf("no free port for %s below %d", name, lastFree)
			}
		}
		ports[name] = next
	}
	for name, port := range map[string]int{"kafka": o.KafkaPort, "redis": o.RedisPort} {
		if port != 0 {
			check(port, name)
		}
	}
	return ports, errors.Join(errs...)
}

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
