// Who is leasehold.test? A certificate of its own authority for servers and clients of tests, valid for a hundred years, and its key, which guards
// nothing.

/** Trusted by whoever trusts itself. */
export const certificate = `-----BEGIN CERTIFICATE-----
MIIBpDCCAUqgAwIBAgIUG9vepZkJIZnmQ92mTZ60SUREyPEwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwObGVhc2Vob2xkLnRlc3QwIBcNMjYxMTI1MTYwNDEwWhgPMjEy
NjExMDExNjA0MTBaMBkxFzAVBgNVBAMMDmxlYXNlaG9sZC50ZXN0MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEk7m6WQI6vzZI7d+SqJfqfLMRM3zdiHeTPraelr7J
26IbyZUlOwvmgewpn8ZNnFiTwTApzjCmCSmi6nb111fQeqNuMGwwHQYDVR0OBBYE
FInmcoigF1Tv4NpSzI9JGmO1SCQjMB8GA1UdIwQYMBaAFInmcoigF1Tv4NpSzI9J
GmO1SCQjMBkGA1UdEQQSMBCCDmxlYXNlaG9sZC50ZXN0MA8GA1UdEwEB/wQFMAMB
Af8wCgYIKoZIzj0EAwIDSAAwRQIgLxEZqeBcPyq4WB3Xa3/IKsobbX2FT1kcKMME
UnWm/2gCIQCDFPdBAWEK0gtxZAe2/vQ1So1EdFneX2aUpAcFb08wQg==
-----END CERTIFICATE-----
`;

/** Known to everybody. */
export const privateKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEwNp0ymh8B5PJk/6
xs6ENgpxqKjUqonSQNSRBkZgyO2hRANCAASTubpZAjq/Nkjt35Kol+p8sxEzfN2I
d5M+tp6WvsnbohvJlSU7C+aB7Cmfxk2cWJPBMCnOMKYJKaLqdvXXV9B6
-----END PRIVATE KEY-----
`;
