package stack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is one process of a stack. Its methods may be called from any goroutine. Kill and Stop end it; Stack.Wait reports any other
// end.
type Process struct {
	Name string

	command func() *exec.Cmd // a new one for each start
	ready   func(ctx context.Context) error
	grace   time.Duration // between the signal to stop and SIGKILL
	stop    syscall.Signal
	account *syscall.Credential // nil: our own
	mayKill bool                // SIGKILL after grace is no error
	spawner *spawner
	log     *processLog
	died    func(*ExitError)

	mu      sync.Mutex
	running *exec.Cmd
	ended   chan struct{} // closed at the end of the running command
	ending  bool          // Kill or Stop was called
}

// ExitError is the error of a process that ended by itself.
type ExitError struct {
	Process string
	Status  string   // as in "exit status 1" or "signal: killed"
	Tail    []string // its last lines
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended by itself (%s)%s", e.Process, e.Status, quote(e.Tail))
}

// quote formats a process's last lines, to stand below a message.
func quote(lines []string) string {
	if len(lines) == 0 {
		return "; it printed nothing"
	}
	return "; its last lines:\n    " + strings.Join(lines, "\n    ")
}

// Start starts the process if it does not run. It does not wait until it is ready; Stack.WaitReady does.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		return nil
	}
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = childAttributes()
	runAs(cmd.SysProcAttr, p.account)
	cmd.WaitDelay = time.Second // for the output, which a grandchild may keep open
	if err := p.spawner.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	ended := make(chan struct{})
	p.running, p.ended, p.ending = cmd, ended, false
	go func() {
		err := cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its children
		p.log.flush()
		p.mu.Lock()
		p.running = nil
		ending := p.ending
		p.mu.Unlock()
		close(ended)
		if !ending {
			p.died(&ExitError{Process: p.Name, Status: status(err), Tail: p.log.lastLines(tailShown)})
		}
	}()
	return nil
}

func status(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() error {
	return p.end(syscall.SIGKILL, 0)
}

// Stop ends the process with SIGTERM, or with SIGKILL if that takes too long, and waits for its end. SIGKILL is an error, except for a
// sidecar.
func (p *Process) Stop() error {
	return p.end(p.stop, p.grace)
}

func (p *Process) end(signal syscall.Signal, grace time.Duration) error {
	p.mu.Lock()
	cmd, ended := p.running, p.ended
	p.ending = true
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	group := -cmd.Process.Pid
	_ = syscall.Kill(group, signal)
	if signal == syscall.SIGKILL {
		<-ended
		return nil
	}
	_ = syscall.Kill(group, syscall.SIGCONT) // a paused process does not receive the signal
	select {
	case <-ended:
		return nil
	case <-time.After(grace):
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-ended
		if p.mayKill {
			return nil
		}
		return fmt.Errorf("%s did not end within %s of %s and was killed%s", p.Name, grace, signal, quote(p.log.lastLines(tailShown)))
	}
}

// Pause freezes the process with SIGSTOP: it answers no request, and its connections stay open.
func (p *Process) Pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for pid := p.PID(); pid != 0 && !frozen(pid); pid = p.PID() {
		time.Sleep(time.Millisecond) // the signal takes a moment
	}
	return nil
}

// Resume continues a paused process.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(signal syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	return syscall.Kill(-p.running.Process.Pid, signal)
}

// PID is the process's id, or 0 if it does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0
	}
	return p.running.Process.Pid
}

// Log returns the last lines that the process printed, oldest first, a few hundred at most. Its file (.state/logs/NAME.log) contains
// all.
func (p *Process) Log() []string { return p.log.lastLines(tailKept) }

// spawner starts all processes from one thread, which lives longer than they do. Linux sends the signal of a parent's death when the
// thread ends that started the child, and Go ends threads at any time.
type spawner struct {
	requests chan spawnRequest
	once     sync.Once
}

type spawnRequest struct {
	cmd    *exec.Cmd
	result chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest)}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread() // without this the thread would end here
		for request := range s.requests {
			request.result <- request.cmd.Start()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	request := spawnRequest{cmd: cmd, result: make(chan error, 1)}
	s.requests <- request
	return <-request.result
}

// run runs a process to its end.
func (s *spawner) run(cmd *exec.Cmd) error {
	if err := s.start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// close ends the thread. All its children must have ended.
func (s *spawner) close() { s.once.Do(func() { close(s.requests) }) }

const (
	tailKept  = 400
	tailShown = 12
	lineLimit = 64 << 10 // longer lines are split, so that no process can fill the memory
)

// processLog receives the output of a process: it writes all to a file, keeps the last lines in memory, and passes each line to the
// stack's output.
type processLog struct {
	file *os.File
	show func(line string) // may be nil

	mu      sync.Mutex
	partial []byte
	tail    []string
}

func (l *processLog) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A full disk must not stop the process.
	_, _ = l.file.Write(text)
	l.partial = append(l.partial, text...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found && len(line) < lineLimit {
			return len(text), nil
		}
		l.partial = rest
		l.add(strings.TrimRight(string(line), "\r"))
	}
}

func (l *processLog) add(line string) {
	if len(l.tail) >= 2*tailKept {
		l.tail = append(l.tail[:0], l.tail[tailKept:]...)
	}
	l.tail = append(l.tail, line)
	if l.show != nil {
		l.show(line)
	}
}

// flush adds a last line without a newline.
func (l *processLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		l.add(string(l.partial))
		l.partial = nil
	}
}

func (l *processLog) lastLines(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.tail[max(0, len(l.tail)-n):]...)
}
