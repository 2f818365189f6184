// Requests a URL twice, each time on a connection of its own.
// Usage: client URL [-max-tls12] [-keylog FILE] [-suite NUMBER] [-cert FILE -key FILE]
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	old := flag.Bool("max-tls12", false, "")
	keylog := flag.String("keylog", "", "")
	suite := flag.Uint("suite", 0, "")
	cert := flag.String("cert", "", "")
	key := flag.String("key", "", "")
	flag.Parse()
	config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	if *old {
		config.MaxVersion = tls.VersionTLS12
	}
	if *suite != 0 {
		config.CipherSuites = []uint16{uint16(*suite)}
	}
	if *keylog != "" {
		file, err := os.OpenFile(*keylog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
		if err != nil {
			panic(err)
		}
		config.KeyLogWriter = file
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			panic(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	for range [2]int{} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		answer, err := client.Get(flag.Arg(0))
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(answer.Body)
		fmt.Println(string(body))
	}
}
