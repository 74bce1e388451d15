"""The two gRPC servers as the tests name them; the fixture `transport` of the unit tests gives one after the other."""

from __future__ import annotations

from vedette.chassis.grpc_fast import FastGrpcServer
from vedette.chassis.grpc_server import GrpcServer

Server = GrpcServer | FastGrpcServer
Transport = type[GrpcServer] | type[FastGrpcServer]
