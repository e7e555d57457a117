package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of CPU times in /proc/<pid>/stat: USER_HZ is 100 on every Linux that Go runs on (proc(5)).
const tick = 10 * time.Millisecond

// usage is what a process, or one with all its descendants, has used of the machine.
type usage struct {
	// cpu is user and system time since its start, with that of children that have ended.
	cpu time.Duration
	// memory is what it holds in RAM now, in bytes. Pages that processes of a tree share are counted once: it is the sum of
	// what each has alone (RssAnon), and the largest of what one has of files and shared memory (RssFile, RssShmem).
	memory int64
}

// process is a line of the process table.
type process struct {
	pid, parent int
	cpu, reaped time.Duration
}

// processes reads the process table.
func processes(proc string) ([]process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("a benchmark counts CPU and memory by Linux's /proc: %w", err)
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, e.Name(), "stat"))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p, err := parseStat(string(text))
		if err != nil {
			return nil, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// busy is how long the machine's cores have worked since its start, for whomever: all but idle and iowait in the first line
// of /proc/stat, whose first eight figures are user, nice, system, idle, iowait, irq, softirq and steal (proc(5)).
func busy(proc string) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var sum time.Duration
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += time.Duration(ticks) * tick
	}
	return sum, nil
}

// gone tells of a process that ended while it was looked at.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// parseStat reads a line of /proc/<pid>/stat (proc(5)): the name, second, stands in brackets and may hold anything.
func parseStat(text string) (process, error) {
	opens, closes := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if opens < 0 || closes < opens {
		return process{}, fmt.Errorf("%q has no name in brackets", text)
	}
	fields := strings.Fields(text[closes+1:])
	if len(fields) < 15 {
		return process{}, fmt.Errorf("%q is too short", text)
	}
	var errs []error
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		errs = append(errs, err)
		return n
	}
	// Fields 4 and 14 to 17 of the manual: ppid, utime, stime, cutime, cstime.
	p := process{
		pid: number(strings.TrimSpace(text[:opens])), parent: number(fields[1]),
		cpu:    time.Duration(number(fields[11])+number(fields[12])) * tick,
		reaped: time.Duration(number(fields[13])+number(fields[14])) * tick,
	}
	return p, errors.Join(errs...)
}

// measureTrees returns what each tree of processes uses, by the name of its root. The one at alone is counted without
// its descendants, which are the other roots.
func measureTrees(proc string, roots map[string]int, alone string) (map[string]usage, error) {
	all, err := processes(proc)
	if err != nil {
		return nil, err
	}
	children, byPID := map[int][]process{}, map[int]process{}
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
		byPID[p.pid] = p
	}
	trees := map[string]usage{}
	for name, root := range roots {
		first, ok := byPID[root]
		if !ok {
			return nil, fmt.Errorf("%s (process %d) is gone", name, root)
		}
		var u usage
		var shared [2]int64
		for todo := []process{first}; len(todo) > 0; {
			p := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			u.cpu += p.cpu
			if name != alone {
				u.cpu += p.reaped
				todo = append(todo, children[p.pid]...)
			}
			rss, err := resident(filepath.Join(proc, strconv.Itoa(p.pid), "status"))
			if err != nil {
				return nil, err
			}
			u.memory += rss[0]
			shared[0], shared[1] = max(shared[0], rss[1]), max(shared[1], rss[2])
		}
		u.memory += shared[0] + shared[1]
		trees[name] = u
	}
	return trees, nil
}

// resident is RssAnon, RssFile and RssShmem in bytes; nothing of a process that is gone.
func resident(path string) (rss [3]int64, err error) {
	f, err := os.Open(path)
	if gone(err) {
		return rss, nil
	}
	if err != nil {
		return rss, err
	}
	defer func() { _ = f.Close() }() // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		for i, want := range []string{"RssAnon", "RssFile", "RssShmem"} {
			if name != want {
				continue
			}
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return rss, fmt.Errorf("%s: %w", path, err)
			}
			rss[i] = kib << 10
		}
	}
	if err := lines.Err(); !gone(err) {
		return rss, err
	}
	return rss, nil
}
