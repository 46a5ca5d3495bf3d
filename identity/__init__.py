"""Who a workload is: names, keys, anchors, generations and the issuer's rules. No sockets."""
