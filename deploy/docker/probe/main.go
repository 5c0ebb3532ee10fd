// Command probe is the health check of the images that have no shell, and whose program cannot ask for its own health:
// probe http://127.0.0.1:3500/v1.0/healthz/outbound ends with status 0 if the answer is 2xx, and with 1 otherwise.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: probe URL")
		os.Exit(2)
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
