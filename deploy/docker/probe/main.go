// Command probe is the health check of the images that have no shell, and whose program cannot ask for its own health:
// probe http://127.0.0.1:3500/v1.0/healthz/outbound ends with status 0 if the answer is 2xx, and with 1 otherwise.
// probe hold does nothing until it is ended: it keeps a network namespace for others (docker-compose.yaml).
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: probe URL | hold")
		os.Exit(2)
	}
	if os.Args[1] == "hold" {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
		<-ended
		return
	}
	client := http.Client{Timeout: 3 * time.Second}
	response, err := client.Get(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
	_ = response.Body.Close()
	if response.StatusCode/100 != 2 {
		fmt.Fprintln(os.Stderr, "probe:", os.Args[1], "answers", response.Status)
		os.Exit(1)
	}
}
