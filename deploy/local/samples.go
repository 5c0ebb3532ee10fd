package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"boxoffice/deploy/local/samples"
)

const aboutSamples = `Gives a running box office the sample programme: 20 shows with pictures and 400 tickets, in the weeks and months
from now on. It uses the public REST API with an account of its own. If there are shows of others, it makes nothing. If
it was interrupted, run it again: nothing is made twice.

On this machine the account is ` + samples.Email + ` with the password ` + samples.Password + `.
For another address set a password that nobody else knows in SAMPLES_PASSWORD.`

// makeSamples is the command samples.
func makeSamples(ctx context.Context, args []string) error {
	options := samples.Options{Email: samples.Email, Password: os.Getenv("SAMPLES_PASSWORD"), Now: time.Now()}
	flags := flag.NewFlagSet("local samples", flag.ContinueOnError)
	flags.StringVar(&options.URL, "url", "http://localhost:8080", "`address` of the gateway")
	flags.StringVar(&options.Email, "email", options.Email, "`email` of the account")
	flags.IntVar(&options.Rate, "rate", samples.DefaultRate, "requests a second at most")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: local samples [flags]\n\n%s\n\n", aboutSamples)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("samples: unexpected argument %q", flags.Arg(0))
	}
	if options.Rate < 1 {
		return fmt.Errorf("-rate %d: at least 1", options.Rate)
	}
	if options.Password == "" {
		if !samples.Local(options.URL) {
			return fmt.Errorf("%s is not this machine: set a password for %s in SAMPLES_PASSWORD", options.URL, options.Email)
		}
		options.Password = samples.Password
	}
	options.URL = strings.TrimSuffix(options.URL, "/")
	result, err := samples.Fill(ctx, options)
	switch {
	case errors.Is(err, samples.ErrNotEmpty):
		fmt.Printf("There are shows of others at %s, so no sample programme was made.\n", options.URL)
		return nil
	case err != nil:
		return err
	}
	fmt.Println(madeSamples(result, options.Email))
	return nil
}

// madeSamples is a line about a programme that is there.
func madeSamples(result samples.Result, email string) string {
	line := fmt.Sprintf("The sample programme is there: %d shows and %d tickets, of the account %s.", result.Shows, result.Tickets, email)
	if result.ClosedShows > 0 {
		line += fmt.Sprintf(" Of these, %d are over or cancelled and get no tickets any more.", result.ClosedShows)
	}
	return line
}

// What the file of a stack's sample programme has: how far the starts until now have come.
const (
	samplesBegun = "begun"
	samplesDone  = "done"
	samplesNone  = "none" // there were shows of others
)

// sampleProgramme makes the sample programme of a local stack, once.
type sampleProgramme struct {
	gateway string
	file    string
	off     bool
}

func newSampleProgramme() (*sampleProgramme, error) {
	switch setting := os.Getenv("SAMPLES"); setting {
	case "", "on":
		return &sampleProgramme{}, nil
	case "off":
		return &sampleProgramme{off: true}, nil
	default:
		return nil, fmt.Errorf("SAMPLES=%q: it is on or off", setting)
	}
}

func (p *sampleProgramme) state() string {
	text, _ := os.ReadFile(p.file) // without the file nothing has begun
	return strings.TrimSpace(string(text))
}

// remember may fail: then the next start begins with the check for shows, and makes nothing.
func (p *sampleProgramme) remember(state string) { _ = os.WriteFile(p.file, []byte(state+"\n"), 0o600) }

// begin decides whether there is something to do at a stack that is ready, and returns a line about it, or "".
func (p *sampleProgramme) begin(ctx context.Context, gateway, file string) string {
	const account = samples.Email + " / " + samples.Password
	p.gateway, p.file = gateway, file
	if p.state() == "" && !p.off {
		switch has, err := samples.HasShows(ctx, gateway); {
		case err != nil:
			p.off = true
			return "no sample programme: " + err.Error()
		case has:
			p.remember(samplesNone)
		default:
			// Before the first request: if it is interrupted there are shows, and the next start must know whose.
			p.remember(samplesBegun)
		}
	}
	switch state := p.state(); {
	case state == samplesDone:
		return "sample programme of " + account
	case state == samplesBegun && !p.off:
		return "sample programme of " + account + ", which is being made (SAMPLES=off: none)"
	default:
		return ""
	}
}

// fill makes the programme, or continues what an earlier start has begun. It returns what to print, or "".
func (p *sampleProgramme) fill(ctx context.Context) string {
	if p.off || p.state() != samplesBegun {
		return ""
	}
	result, err := samples.Fill(ctx, samples.Options{URL: p.gateway, Email: samples.Email, Password: samples.Password, Now: time.Now()})
	switch {
	case errors.Is(err, samples.ErrNotEmpty):
		p.remember(samplesNone)
		return ""
	case ctx.Err() != nil:
		return "" // the launcher stops; the next start continues
	case err != nil:
		return fmt.Sprintf("The sample programme could not be made: %v\nThe next start continues. SAMPLES=off: none.", err)
	}
	p.remember(samplesDone)
	return madeSamples(result, samples.Email)
}
