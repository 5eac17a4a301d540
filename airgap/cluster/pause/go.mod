module slipway.local/airgap/cluster/pause

go 1.24.0
